"""Takes the free memory between the blocks of a fork server's heap, so that its forks allocate side by side.

A fork that allocates in such a hole copies the page around it, and the next block lies in another page. Measured with
the usual modules: a run has 60 to 100 of 2,450 page faults less, and 0.3 of 7 MiB of memory. What is taken stays taken.
"""

import ctypes
import time
from typing import List

#: Sizes of the blocks that are taken, the largest first, bytes.
_SIZES = (65536, 32768, 16384, 8192, 4096, 2048, 1024, 512, 256, 128, 64, 24)
#: The C library has up to 7 blocks of each of these sizes at hand that it counts as used (glibc, tcache).
_AT_HAND_BYTES = 1032
_AT_HAND = 7
#: Longest time that is spent on it, seconds: a heap with many large modules may have very many holes.
_BUDGET_S = 0.05


class Info(ctypes.Structure):
    """struct mallinfo2 (mallinfo(3))."""

    _fields_ = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks")),
        *((name, ctypes.c_size_t) for name in ("fsmblks", "uordblks", "fordblks", "keepcost")),
    ]


def fill_holes() -> None:
    """Take what is free except at the end of the heap. Does nothing with a C library other than glibc since 2.33."""
    libc = ctypes.CDLL(None)
    info = getattr(libc, "mallinfo2", None)
    if info is None:
        return
    info.restype = Info
    libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
    until_s = time.monotonic() + _BUDGET_S
    for size in _SIZES:
        elsewhere: List[int] = []
        left = free_bytes(info())
        while len(elsewhere) <= (_AT_HAND if size <= _AT_HAND_BYTES else 0) and time.monotonic() < until_s:
            block = libc.malloc(size)
            before, left = left, free_bytes(info())
            if left > before - size:
                elsewhere.append(block)
        for block in elsewhere:
            libc.free(block)


def free_bytes(info: Info) -> int:
    """Return how much is free except at the end of the heap, bytes."""
    return int(info.fordblks - info.keepcost)

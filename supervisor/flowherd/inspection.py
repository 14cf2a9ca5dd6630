"""Keeps other processes of the same user, such as flow runs, from reading this process's memory.

Fork servers and runners do the same for themselves (flowherd_runner/osapi.py).
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

# prctl(2)
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4


@contextlib.contextmanager
def closed_to_inspection() -> Iterator[None]:
    """Until the end of the block, let nobody but root trace this process or read its memory, environment, descriptors.

    It leaves no core dump meanwhile (PR_SET_DUMPABLE in prctl(2); docs/how-to/debug-a-run.md says how to get one).
    Programs that it starts are not concerned.
    """
    libc = ctypes.CDLL(None)
    before = libc.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    try:
        yield
    finally:
        if before == 1:  # nothing else can be set by hand
            libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)

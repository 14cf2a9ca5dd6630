"""The program that is pid 1 of a run's pid namespace, as an ELF file that is made here: it only waits for its end.

An executable of some 400 bytes without a library takes a few pages of memory, while a fork of this interpreter would
take more than a megabyte. All it does is a row of system calls, so a table of them is all that this module needs:

    it is not dumpable: no process of the run may look into it, because it sees the host's mounts
    the kernel kills it when its parent, the runner, ends
    it has a name; the kernel waits for its children by itself; it closes all descriptors but 0
    it writes one byte to descriptor 0, and waits there for a byte or the end of file, and ends

Its end is the end of every process in the namespace (pid_namespaces(7)). Nothing is checked: a call that an old kernel
does not know, such as close_range(2), does nothing, and the descriptors are closed by exec all the same.
"""

import os
import signal
import struct
from functools import lru_cache
from typing import Dict, List, NamedTuple, Optional, Tuple

#: Its name in the process table.
NAME = "flowherd-init"

_ADDRESS = 0x400000
#: elf(5): the sizes of Elf64_Ehdr and Elf64_Phdr.
_HEADER_BYTES, _SEGMENT_BYTES = 64, 56
#: Largest page size of an arm64 kernel; the segment is aligned to it.
_PAGE_BYTES = 0x10000

# prctl(2), close_range(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_ALL_FROM_1 = (1, 0xFFFFFFFF, 0)

#: rt_sigaction(2): the kernel's struct sigaction with SIG_IGN as its handler, and the size of its mask.
_IGNORE = struct.pack("=QQQQ", 1, 0, 0, 0)
_MASK_BYTES = 8


class _Machine(NamedTuple):
    #: elf.h, e_machine.
    elf: int
    #: Numbers of the system calls.
    calls: Dict[str, int]


#: By os.uname().machine; the numbers are those of arch/x86/entry/syscalls/syscall_64.tbl and
#: include/uapi/asm-generic/unistd.h of the kernel.
_MACHINES = {
    "x86_64": _Machine(
        62, {"read": 0, "write": 1, "rt_sigaction": 13, "exit_group": 231, "prctl": 157, "close_range": 436}
    ),
    "aarch64": _Machine(
        183, {"read": 63, "write": 64, "rt_sigaction": 134, "exit_group": 94, "prctl": 167, "close_range": 436}
    ),
}


@lru_cache(maxsize=None)
def program(machine: Optional[str] = None) -> Optional[bytes]:
    """Return the executable for `machine` (None: this one); None if its calls are not known here."""
    if machine is None:
        # Not platform.machine(), which starts a program in Python 3.7. A 32-bit interpreter may run on a 64-bit kernel.
        machine = os.uname().machine if struct.calcsize("P") == 8 else ""
    known = _MACHINES.get(machine)
    if known is None:
        return None
    data = _IGNORE + NAME.encode() + b"\0"
    data += b"\0" * (-len(data) % 8)
    at = _ADDRESS + _HEADER_BYTES + 2 * _SEGMENT_BYTES
    name = at + len(_IGNORE)
    # At the end of file nothing is stored. Nobody sends a byte; the kernel would refuse to store it here (EFAULT).
    rows: List[Tuple[str, Tuple[int, ...]]] = [
        ("prctl", (_PR_SET_DUMPABLE, 0, 0, 0, 0)),
        ("prctl", (_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)),
        ("prctl", (_PR_SET_NAME, name, 0, 0, 0)),
        ("rt_sigaction", (signal.SIGCHLD, at, 0, _MASK_BYTES)),
        ("close_range", _ALL_FROM_1),
        ("write", (0, name, 1)),
        ("read", (0, at, 1)),
        ("exit_group", (0,)),
    ]
    encode = _x86_64 if machine == "x86_64" else _aarch64
    code = b"".join(encode(known.calls[call], arguments) for call, arguments in rows)
    return _elf(known.elf, data, code)


def _elf(machine: int, data: bytes, code: bytes) -> bytes:
    """Return an executable of one segment, which may be read and executed: headers, data, code (elf(5))."""
    start = _HEADER_BYTES + 2 * _SEGMENT_BYTES
    size = start + len(data) + len(code)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",  # 64 bits, little-endian
        2, machine, 1, _ADDRESS + start + len(data), _HEADER_BYTES, 0, 0, _HEADER_BYTES, _SEGMENT_BYTES, 2, 0, 0, 0,
    )  # fmt: skip
    loaded = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, _PAGE_BYTES)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)  # PT_GNU_STACK: no code on the stack
    return header + loaded + stack + data + code


def _x86_64(number: int, arguments: Tuple[int, ...]) -> bytes:
    """Return the instructions of one system call (syscall(2)): mov to edi, esi, edx, r10d, r8d, r9d, eax; syscall."""
    moves = (b"\xbf", b"\xbe", b"\xba", b"\x41\xba", b"\x41\xb8", b"\x41\xb9")
    code = b"".join(move + struct.pack("<I", value) for move, value in zip(moves, arguments))
    return code + b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"


def _aarch64(number: int, arguments: Tuple[int, ...]) -> bytes:
    """Return the instructions of one system call: movz and movk to x0 to x5 and x8; svc #0."""
    words: List[int] = []
    for register, value in [*enumerate(arguments), (8, number)]:
        words.append(0xD2800000 | (value & 0xFFFF) << 5 | register)
        words.append(0xF2A00000 | (value >> 16) << 5 | register)
    words.append(0xD4000001)
    return struct.pack("<{}I".format(len(words)), *words)

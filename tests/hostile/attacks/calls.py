"""System calls that Python does not have, for attacks; x86_64 and aarch64."""

import ctypes
import os
import platform
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_X86 = platform.machine() == "x86_64"

PTRACE = 101 if _X86 else 117
PRLIMIT64 = 302 if _X86 else 261
IOPRIO_SET = 251 if _X86 else 30
IOPRIO_GET = 252 if _X86 else 31
PROCESS_VM_READV = 310 if _X86 else 270
PROCESS_VM_WRITEV = 311 if _X86 else 271
KEYCTL = 250 if _X86 else 219
ADD_KEY = 248 if _X86 else 217
SHMGET = 29 if _X86 else 194
SHMAT = 30 if _X86 else 196
UMOUNT2 = 166 if _X86 else 39
MOUNT = 165 if _X86 else 40
UNSHARE = 272 if _X86 else 97
SETNS = 308 if _X86 else 268
INIT_MODULE = 175 if _X86 else 105
SETHOSTNAME = 170 if _X86 else 161
PERF_EVENT_OPEN = 298 if _X86 else 241
BPF = 321 if _X86 else 280
OPEN_BY_HANDLE_AT = 304 if _X86 else 265
PIDFD_OPEN = 434
PIDFD_GETFD = 438
OPEN_TREE = 428
PIDFD_SEND_SIGNAL = 424
MOVE_MOUNT = 429
IO_URING_SETUP = 425

NEWNS = 0x00020000
NEWCGROUP = 0x02000000
NEWUSER = 0x10000000
MS_BIND = 4096
MNT_DETACH = 2
AT_FDCWD = -100


def call(number: int, *arguments: Any) -> int:
    """Make a system call with numbers, byte strings and ctypes objects. Raises OSError."""
    converted = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    _LIBC.syscall.restype = ctypes.c_long
    result = int(_LIBC.syscall(ctypes.c_long(number), *converted))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def own_namespaces(flags: int) -> None:
    """Enter a user namespace of one's own with all capabilities in it, and those of `flags`. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    call(UNSHARE, NEWUSER | flags)
    for name, text in (("setgroups", "deny"), ("uid_map", "0 {} 1".format(uid)), ("gid_map", "0 {} 1".format(gid))):
        with open("/proc/self/" + name, "w") as file:
            file.write(text)


def text_at(address: int, size: int) -> str:
    """Return the text in this process's memory up to the first NUL."""
    return ctypes.string_at(address, size).split(b"\0")[0].decode("utf-8", "replace")

"""System calls of isolation that the standard library does not have. All raise OSError, which names the call.

Numbers from 424 on are the same on every machine but alpha (syscalls(2)); of the older ones only those are used that
the C library has functions for, and keyctl(2), by machine.
"""

import ctypes
import os
from typing import Any, Optional, Union

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# unshare(2)
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CLONE_NEWUTS = 0x04000000
ALL_NAMESPACES = (
    CLONE_NEWNS | CLONE_NEWCGROUP | _CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET
)

# mount(2)
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SLAVE = 1 << 19

# mount_setattr(2)
_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_AT_EMPTY_PATH = 0x1000
ATTR_RDONLY = 1
ATTR_NODEV = 4

# prctl(2)
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

#: keyctl(2), by machine.
_KEYCTL = {"x86_64": 250, "aarch64": 219}
_KEYCTL_JOIN_SESSION_KEYRING = 1

_Path = Union[str, bytes]


def unshare(flags: int) -> None:
    """Leave namespaces (unshare(2))."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: Optional[_Path], target: _Path, kind: Optional[str], flags: int, data: Optional[str] = None) -> None:
    """Attach a file system, or change how one is attached (mount(2))."""
    result = _libc.mount(_text(source), _text(target), _text(kind), ctypes.c_ulong(flags), _text(data))
    _check(result, "mount", os.fsdecode(target))


def bind(fd: int, target: _Path) -> None:
    """Attach what the descriptor stands for, and all that is mounted below it, at `target` too."""
    mount("/proc/self/fd/{}".format(fd), target, None, MS_BIND | MS_REC)


def bind_on_itself(fd: int) -> None:
    """Make what the descriptor stands for a mount of its own, where it is."""
    bind(fd, "/proc/self/fd/{}".format(fd))


class _MountAttributes(ctypes.Structure):
    """struct mount_attr of mount_setattr(2)."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def set_mount_attributes(place: Union[int, _Path], on: int = 0, off: int = 0, recursive: bool = False) -> None:
    """Set and clear attributes of the mount at a path or descriptor, or of all below it too (mount_setattr(2)).

    Since Linux 5.12.
    """
    attributes = _MountAttributes(on, off, 0, 0)
    fd, path = (place, b"") if isinstance(place, int) else (_AT_FDCWD, _text(place))
    flags = (_AT_EMPTY_PATH if isinstance(place, int) else 0) | (_AT_RECURSIVE if recursive else 0)
    size = ctypes.sizeof(attributes)
    result = system_call(_MOUNT_SETATTR, fd, path, flags, ctypes.byref(attributes), size)
    _check(result, "mount_setattr", "of descriptor {}".format(place) if isinstance(place, int) else os.fsdecode(place))


def join_new_session_keyring() -> None:
    """Have a session keyring of its own, with no key in it (keyctl(2))."""
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        raise OSError(38, "its number is not known for this machine", "keyctl")
    _check(system_call(number, _KEYCTL_JOIN_SESSION_KEYRING, None), "keyctl")


def system_call(number: int, *arguments: Any) -> int:
    """Return what the call of that number returns, -1 for an error (syscall(2)). Integers are passed as longs."""
    given = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    return int(_libc.syscall(ctypes.c_long(number), *given))


def checked_call(name: str, number: int, *arguments: Any) -> int:
    """Return what the call `name` of that number returns."""
    result = system_call(number, *arguments)
    _check(result, name)
    return result


def _check(result: int, name: str, place: Optional[str] = None) -> None:
    if result < 0:
        number = ctypes.get_errno()
        what = name if place is None else "{} {}".format(name, place)
        raise OSError(number, os.strerror(number), what)


def _text(value: Optional[_Path]) -> Optional[bytes]:
    return None if value is None else os.fsencode(value)

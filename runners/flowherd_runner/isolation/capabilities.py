"""The capabilities of a process (capabilities(7)): which it has, and dropping them for good."""

import ctypes
from typing import Collection, Set

from flowherd_runner.isolation import system_calls

_libc = ctypes.CDLL(None, use_errno=True)

SYS_ADMIN = 21
#: Numbers of the capabilities that a root run at level "private" keeps: those that a container usually has, without
#: MKNOD, which would undo the covers by way of a disk, NET_RAW, which reads the host's network traffic, SETFCAP, which
#: gives privileges to a program for others to run, and AUDIT_WRITE.
KEPT_OF_ROOT = frozenset(
    {
        0,  # CHOWN
        1,  # DAC_OVERRIDE
        3,  # FOWNER
        4,  # FSETID
        5,  # KILL
        6,  # SETGID
        7,  # SETUID
        8,  # SETPCAP
        10,  # NET_BIND_SERVICE
        18,  # SYS_CHROOT
    }
)
#: What this process, or one that it was forked from, has dropped from the bounding set.
_dropped: Set[int] = set()
_VERSION_3 = 0x20080522
_LAST = 63


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct of capget(2)."""

    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    """struct __user_cap_data_struct of capget(2), of which version 3 takes two."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def has(number: int) -> bool:
    """Return whether the capability is in effect."""
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    if _libc.capget(ctypes.byref(header), ctypes.byref(data)) != 0:
        return False
    return bool(data[number // 32].effective >> number % 32 & 1)


def limit(kept: Collection[int]) -> None:
    """Let no program that is started later have others (the bounding set); what this process has is left."""
    for number in range(_LAST + 1):
        if number in kept or number in _dropped:
            continue
        # Without SETPCAP the set stays; and the kernel refuses a number that it does not know.
        if _libc.prctl(system_calls.PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            break
        _dropped.add(number)


def keep_only(kept: Collection[int]) -> None:
    """Drop all others for good, also for programs that are started later. Raises OSError."""
    limit(kept)
    _libc.prctl(system_calls.PR_CAP_AMBIENT, system_calls.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # since Linux 4.3
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), ctypes.byref(data)), "capget")
    for index in (0, 1):
        mask = sum(1 << number - 32 * index for number in kept if number // 32 == index)
        data[index].effective &= mask
        data[index].permitted &= mask
        data[index].inheritable = 0
    _checked(_libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def _checked(result: int, name: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), "failed", name)

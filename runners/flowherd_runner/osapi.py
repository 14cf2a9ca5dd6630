"""Calls of Linux that the standard library of Python 3.7 does not offer, and what belongs around a fork.

Knows no run and no file of flowherd.
"""

import ctypes
import os
import signal
import struct
from typing import Collection, Dict, List, Mapping, NamedTuple, Optional, Tuple

_libc = ctypes.CDLL(None, use_errno=True)

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

# signalfd(2): struct signalfd_siginfo is 128 bytes and begins with number, errno, code, pid, uid.
_SIGINFO_BYTES = 128
_SIGINFO_HEAD = struct.Struct("=IiiII")


def become_subreaper() -> None:
    """Orphaned descendants become children of this process (prctl(2)); not inherited by forks."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, ends.

    Survives execve(2) but not a change of credentials, so it comes after setuid.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def allow_inspection() -> None:
    """Undo what setuid did to /proc/self, whose files the process could no longer list (proc(5), PR_SET_DUMPABLE)."""
    _prctl(_PR_SET_DUMPABLE, 1)


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl option {}".format(option))


#: Descriptors and what they stand for: a number alone may by now belong to another file.
Descriptors = Mapping[int, Optional[Tuple[int, int]]]


class Signal(NamedTuple):
    """One signal that arrived; `pid` and `uid` are its sender's, 0 when the kernel sent it."""

    number: int
    pid: int
    uid: int


class SignalQueue:
    """Blocks `numbers` in this process and makes them readable from a descriptor instead, with their senders.

    A descriptor, because it needs no handler that a fork would inherit, and signalfd because a wakeup descriptor
    cannot tell who sent a signal.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
        mask = (ctypes.c_ulong * (128 // ctypes.sizeof(ctypes.c_ulong)))()
        _libc.sigemptyset(ctypes.byref(mask))
        for number in numbers:
            _libc.sigaddset(ctypes.byref(mask), number)
        # SFD_CLOEXEC and SFD_NONBLOCK are the open(2) flags of those names.
        self._fd = _libc.signalfd(-1, ctypes.byref(mask), os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "signalfd")

    def fileno(self) -> int:
        return int(self._fd)

    def read(self) -> List[Signal]:
        """All signals that have arrived; never waits."""
        found: List[Signal] = []
        while True:
            try:
                data = os.read(self._fd, 16 * _SIGINFO_BYTES)
            except BlockingIOError:
                return found
            for start in range(0, len(data), _SIGINFO_BYTES):
                number, _, _, pid, uid = _SIGINFO_HEAD.unpack_from(data, start)
                found.append(Signal(number, pid, uid))

    def close(self) -> None:
        """Close the descriptor; the signals stay blocked."""
        os.close(self._fd)


def reset_signals(python: bool) -> None:
    """Give every signal its default action and unblock all; with `python` those actions that the interpreter sets.

    Signals whose action is the default already are left alone, so a faulthandler of the run stays.
    """
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        try:
            action = signal.getsignal(number)
        except ValueError:
            continue
        if action not in (signal.SIG_DFL, None) and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    if python:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def file_identity(fd: int) -> Optional[Tuple[int, int]]:
    """Which file, pipe or socket a descriptor stands for; None when it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_fds() -> Dict[int, Tuple[int, int]]:
    """The descriptors that are open in this process, and what they stand for."""
    identities = {int(name): file_identity(int(name)) for name in os.listdir("/proc/self/fd")}
    return {fd: identity for fd, identity in identities.items() if identity is not None}  # the listing's own is closed


def close_others(keep: Descriptors) -> None:
    """Close every descriptor above 2 that does not stand for what `keep` says."""
    for fd, identity in open_fds().items():
        if fd > 2 and keep.get(fd) != identity:
            os.close(fd)


def thread_count() -> int:
    """Threads of this process, those that Python does not know of included."""
    return len(os.listdir("/proc/self/task"))


def enter_cgroup(directory: Optional[str]) -> Optional[str]:
    """Enter the cgroup `directory` (cgroup-v2.rst). Return it; None when there is none or it is gone.

    Nothing depends on it: what a run's cgroup limits is limited in other ways too.
    """
    if directory is None:
        return None
    try:
        with open(os.path.join(directory, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))
    except OSError:
        return None
    return directory

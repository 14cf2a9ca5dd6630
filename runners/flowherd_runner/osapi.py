"""System calls that the standard library of Python 3.7 does not have, and helpers for a process that was forked.

Knows nothing of runs and run directories.
"""

import _signal  # type: ignore[import-not-found]
import ctypes
import fcntl
import os
import signal
import stat
import struct
from typing import Collection, Dict, List, Mapping, NamedTuple, Optional, Tuple

_libc = ctypes.CDLL(None, use_errno=True)

# prctl(2)
_PR_SET_PDEATHSIG = 1
_PR_GET_DUMPABLE = 3
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

# signalfd(2): struct signalfd_siginfo is 128 bytes and begins with number, errno, code, pid, uid.
_SIGINFO_BYTES = 128
_SIGINFO_HEAD = struct.Struct("=IiiII")


def become_subreaper() -> None:
    """Make orphaned descendants children of this process (prctl(2)); not inherited by forks."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which forked it, ends.

    Survives execve(2) but not a change of credentials, so it comes after setuid.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() not in (parent, 0):  # it ended before the call; 0: it is in another pid namespace
        os.kill(os.getpid(), signal.SIGKILL)


def forbid_inspection() -> None:
    """Keep other processes of this user out of this one's memory, descriptors and environment (proc(5)).

    They can neither trace it nor read /proc/PID/mem, fd, environ or maps, and it leaves no core dump. Forks inherit
    that, execve(2) ends it (PR_SET_DUMPABLE in prctl(2), "dumpable" in ptrace(2)).
    """
    prctl(_PR_SET_DUMPABLE, 0)


def allow_inspection() -> None:
    """Undo `forbid_inspection`, and what setuid does alike: the process owns the files of its /proc/self again."""
    prctl(_PR_SET_DUMPABLE, 1)


def allows_inspection() -> bool:
    """Return whether neither `forbid_inspection` nor a change of credentials is in force."""
    return prctl(_PR_GET_DUMPABLE) == 1


def prctl(option: int, value: int = 0) -> int:
    """Return what prctl(2) returns. Raises OSError."""
    zero = ctypes.c_ulong(0)
    result = int(_libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "prctl option {}".format(option))
    return result


#: Descriptors and the files that they stand for: the number alone may belong to another file by now.
Descriptors = Mapping[int, Optional[Tuple[int, int]]]


class Signal(NamedTuple):
    """A signal that arrived; `pid` and `uid` are those of its sender, 0 when the kernel sent it."""

    number: int
    pid: int
    uid: int


class SignalQueue:
    """Blocks the signals `numbers` in this process and makes them readable from a descriptor, with their senders.

    A descriptor needs no handler, which a fork would inherit; signalfd(2) because a wakeup descriptor does not tell the
    sender of a signal.
    """

    def __init__(self, numbers: Collection[int]) -> None:
        set_signal_mask(signal.SIG_BLOCK, numbers)
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
        """Return all signals that have arrived; never wait."""
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


def environment() -> Dict[str, str]:
    """Return a copy of os.environ. All of it is decoded in one call, because each run does this three times."""
    data = getattr(os.environ, "_data", None)
    if not isinstance(data, dict):
        return dict(os.environ)
    texts = os.fsdecode(b"\0".join([part for pair in data.items() for part in pair])).split("\0")
    return dict(zip(texts[::2], texts[1::2]))


def set_signal_mask(how: int, numbers: Collection[int]) -> Collection[int]:
    """Do what signal.pthread_sigmask does and return the mask before, as numbers without names."""
    before: Collection[int] = _signal.pthread_sigmask(how, numbers)
    return before


def reset_signals(python: bool) -> None:
    """Unblock all signals and give them their default actions; with `python`, those that the interpreter sets.

    Signals whose action is the default already are left alone, so that a faulthandler of the run stays.
    """
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        try:
            action = _signal.getsignal(number)  # without the names that `signal` looks up for each
        except ValueError:
            continue
        if action not in (0, None) and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    if python:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    set_signal_mask(signal.SIG_SETMASK, [])


def file_identity(fd: int) -> Optional[Tuple[int, int]]:
    """Return which file, pipe or socket a descriptor stands for; None when it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_fds() -> Dict[int, Tuple[int, int]]:
    """Return the open descriptors of this process, and what they stand for."""
    identities = {int(name): file_identity(int(name)) for name in os.listdir("/proc/self/fd")}
    return {
        fd: identity for fd, identity in identities.items() if identity is not None
    }  # without that of the listing, which is closed


def close_others(keep: Descriptors) -> None:
    """Close every descriptor above 2, except those that stand for what `keep` says."""
    for fd, identity in open_fds().items():
        if fd > 2 and keep.get(fd) != identity:
            os.close(fd)


def return_free_memory() -> None:
    """Give memory that was freed back to the kernel, with a C library that can (malloc_trim(3))."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))


def own_descriptor(fd: int) -> None:
    """Make `fd`, which a fork shares with its parent, this process's own, if it stands for a file or a directory.

    A regular file that is open for reading gets an open file description of its own, and with it a position (open(2));
    the position itself is kept. A directory is replaced by /dev/null under the same number: through its descriptor a
    process reaches what is below it, although the path was covered or may not be used. Does nothing for anything else.
    Raises OSError.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        _replace(fd, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        return
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    if flags & os.O_PATH or not stat.S_ISREG(mode):
        return
    fresh = os.open("/proc/self/fd/{}".format(fd), flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC) | os.O_CLOEXEC)
    try:
        os.lseek(fresh, os.lseek(fd, 0, os.SEEK_CUR), os.SEEK_SET)
    except OSError:
        os.close(fresh)
        raise
    _replace(fd, fresh)


def _replace(fd: int, other: int) -> None:
    try:
        os.dup2(other, fd, inheritable=os.get_inheritable(fd))
    finally:
        os.close(other)


def threads() -> List[int]:
    """Return the ids of the threads of this process, including those that Python does not know."""
    return [int(name) for name in os.listdir("/proc/self/task")]


def thread_count() -> int:
    """Return the number of threads of this process, including those that Python does not know."""
    return len(os.listdir("/proc/self/task"))


def enter_cgroup(directory: Optional[str], pids: Collection[int]) -> Optional[str]:
    """Put processes into the cgroup `directory` (cgroup-v2.rst). Return it; None when there is none or it is gone.

    It takes some ten milliseconds, because the kernel waits for all processors.

    Nothing depends on it: what a run's cgroup limits is limited in other ways too.
    """
    if directory is None:
        return None
    try:
        for pid in pids:
            with open(os.path.join(directory, "cgroup.procs"), "w") as file:
                file.write(str(pid))
    except OSError:
        return None
    return directory


def make_cgroup(directory: str) -> None:
    """Make a cgroup, unless it is there already or cannot be made."""
    try:
        os.mkdir(directory)
    except OSError:
        pass


def remove_cgroup(directory: str) -> None:
    """Remove a cgroup; one that holds processes stays."""
    try:
        os.rmdir(directory)
    except OSError:
        pass


def children() -> List[int]:
    """Return the pids of the children that have not been waited for (proc(5)); none when the kernel does not say."""
    found: List[int] = []
    for thread in threads():
        try:
            with open("/proc/self/task/{}/children".format(thread)) as file:
                found += map(int, file.read().split())
        except OSError:  # the thread has ended, or the kernel was built without CONFIG_PROC_CHILDREN
            pass
    return found

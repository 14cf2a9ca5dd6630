"""What the import of a module leaves behind in this process that forks would share, or would not have.

Compared before and after an import: descriptors, threads, child processes, and memory that stays shared after a fork.

Not counted: regular files that are only read and not locked, because each run opens them anew at the same position
(`osapi.own_descriptor`), and devices without a state, such as /dev/null. Nor threads of a library that ends them
before each fork itself (pthread_atfork(3)), as OpenBLAS does, which numpy brings.
"""

import fcntl
import os
import socket
import stat
import sys
import threading
import time
import warnings
from typing import Any, Callable, FrozenSet, Iterator, List, NamedTuple, Optional

from flowherd_runner import osapi

#: Character devices that have no state: null, zero, full, random and urandom (Documentation/admin-guide/devices.txt).
_STATELESS_DEVICES = frozenset(os.makedev(1, minor) for minor in (3, 5, 7, 8, 9))
#: How long a thread that an import has started may take to end, seconds.
_THREAD_END_S = 0.2
#: How long the child of a trial fork may take to end, seconds; it exits at once.
_TRIAL_FORK_S = 5.0
#: Names of what /proc/self/fd shows as anon_inode:[NAME].
_TITLES = {"eventpoll": "epoll"}
#: Longest name of a file in a description, characters.
_MAX_NAME_CHARS = 120


class State(NamedTuple):
    """What a process has at one moment."""

    fds: osapi.Descriptors
    threads: FrozenSet[int]
    #: Identifiers of the threads that Python knows.
    python_threads: FrozenSet[int]
    children: FrozenSet[int]
    #: Writable shared mappings: beginnings of their addresses and the names of what is mapped.
    shared: FrozenSet[str]
    modules: FrozenSet[str]


def look() -> State:
    """Return what this process has now."""
    return State(
        fds=osapi.open_fds(),
        threads=frozenset(osapi.threads()),
        python_threads=frozenset(sys._current_frames()),
        children=frozenset(osapi.children()),
        shared=frozenset(_shared_mappings()),
        modules=frozenset(sys.modules),
    )


def left_since(before: State, module: str) -> List[str]:
    """Return what the import of `module` has left since `before`, one description each; empty when nothing was.

    A description ends with the name of the other module that holds it, if that can be seen.
    """
    now = look()
    new_modules = [name for name in list(sys.modules) if name not in before.modules]
    left: List[str] = []
    for fd, identity in sorted(now.fds.items()):
        what = _describe_fd(fd) if fd > 2 and before.fds.get(fd) != identity else None
        if what is not None:
            left.append(what + _in_other(_holder(fd, new_modules), module))
    left += [_describe_mapping(line.partition(" ")[2]) for line in sorted(now.shared - before.shared)]
    left += ["process {}".format(_name_of(pid)) for pid in sorted(now.children - before.children)]
    if now.threads - before.threads:
        left += _threads_left(before, module)
    return list(dict.fromkeys(left))


# -- descriptors


def _describe_fd(fd: int) -> Optional[str]:
    """Return what a descriptor is, or None when it is harmless, or closed by now."""
    try:
        status, target = os.fstat(fd), os.readlink("/proc/self/fd/{}".format(fd))
    except OSError:
        return None
    lock = _lock_on(fd)
    if lock is not None:
        return "{} on {}".format(lock, _short(target))
    if stat.S_ISSOCK(status.st_mode):
        return _describe_socket(fd)
    if stat.S_ISFIFO(status.st_mode):
        return "pipe" if target.startswith("pipe:") else "pipe {}".format(_short(target))
    if target.startswith("anon_inode:"):
        name = target[len("anon_inode:") :].strip("[]")
        return _TITLES.get(name, name)
    if stat.S_ISCHR(status.st_mode) and status.st_rdev in _STATELESS_DEVICES:
        return None
    if stat.S_ISDIR(status.st_mode):  # no run gets it, because it leads to all that is below the directory
        return "directory {}".format(_short(target))
    if stat.S_ISREG(status.st_mode):
        return _describe_file(fd, target)
    return _short(target)


def _describe_file(fd: int, target: str) -> Optional[str]:
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return "file {} that is open for writing".format(_short(target))
    try:
        osapi.own_descriptor(fd)
    except OSError:
        return "file {} that cannot be opened again".format(_short(target))
    return None


def _lock_on(fd: int) -> Optional[str]:
    """Return the kind of lock that is held through a descriptor (proc(5), /proc/PID/fdinfo)."""
    try:
        with open("/proc/self/fdinfo/{}".format(fd)) as file:
            locks = [line.split() for line in file if line.startswith("lock:")]
    except OSError:
        return None
    if not locks:
        return None
    return "flock" if "FLOCK" in locks[0] else "lock"


def _describe_socket(fd: int) -> str:
    """Name the other end of a socket, or the address on which it listens."""
    with socket.socket(fileno=os.dup(fd)) as found:
        try:
            return "socket to {}".format(_address(found.getpeername(), "another socket of a pair"))
        except OSError:
            pass
        try:
            return "socket on {}".format(_address(found.getsockname(), "no address"))
        except OSError:
            return "socket"


def _address(address: Any, unnamed: str) -> str:
    if isinstance(address, tuple):
        if len(address) >= 2 and isinstance(address[0], str):
            return "{}:{}".format("[{}]".format(address[0]) if ":" in address[0] else address[0], address[1])
        return str(address)
    name = os.fsdecode(address).replace("\0", "@") if address else ""
    return _short(name) if name else unnamed


def _in_other(holder: Optional[str], module: str) -> str:
    return " in {}".format(holder) if holder not in (None, module) else ""


def _holder(fd: int, modules: List[str]) -> Optional[str]:
    """Return which of these modules holds an object of the descriptor; None when that cannot be seen.

    They are in the order in which their imports ended, so one that imports another one's object comes after it.
    """
    for name in modules:
        for value in list(getattr(sys.modules.get(name), "__dict__", {}).values()):
            if any(_is_object_of(fd, each) for each in _with_attributes(value)):
                return name
    return None


def _with_attributes(value: object) -> Iterator[object]:
    yield value
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, (type, type(sys))):
        for each in list(attributes.values()):
            yield each


def _is_object_of(fd: int, value: object) -> bool:
    try:
        fileno: Callable[[], object] = value.fileno  # type: ignore[attr-defined]
        return not isinstance(value, type) and fileno() == fd
    except BaseException:  # any object of foreign code; this process is replaced afterwards
        return False


# -- memory and processes


def _shared_mappings() -> Iterator[str]:
    """Yield the writable mappings that a fork shares with its parent (proc(5), /proc/PID/maps)."""
    with open("/proc/self/maps", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(None, 5)
            if fields[1].startswith("rw") and fields[1].endswith("s"):
                name = fields[5].strip() if len(fields) > 5 else "without a name"
                yield "{} {}".format(fields[0].partition("-")[0], name)


def _describe_mapping(name: str) -> str:
    """Name a shared mapping; the names of semaphores are random, and without a file it is of /dev/zero (mmap(2))."""
    name = name.replace(" (deleted)", "")
    if name.startswith("/dev/shm/sem."):
        return "semaphore"
    return "shared memory" if name == "/dev/zero" else "shared memory {}".format(_short(name))


def _name_of(pid: int) -> str:
    try:
        with open("/proc/{}/comm".format(pid)) as file:
            return "{} ({})".format(file.read().strip(), pid)
    except OSError:
        return str(pid)


# -- threads


def _threads_left(before: State, module: str) -> List[str]:
    if not _new_python_threads(before):
        _fork_once()
    deadline_s = time.monotonic() + _THREAD_END_S
    while _new_threads(before) and time.monotonic() < deadline_s:
        time.sleep(0.005)
    if not _new_threads(before):
        return []
    idents = _new_python_threads(before)
    named = [_describe_thread(thread, module) for thread in threading.enumerate() if thread.ident in idents]
    return named or ["thread of a library ({})".format(_name_of(tid)) for tid in sorted(_new_threads(before))]


def _new_threads(before: State) -> FrozenSet[int]:
    return frozenset(osapi.threads()) - before.threads


def _new_python_threads(before: State) -> FrozenSet[int]:
    return frozenset(sys._current_frames()) - before.python_threads


def _describe_thread(thread: threading.Thread, module: str) -> str:
    target = getattr(thread, "_target", None) or type(thread)
    holder = getattr(target, "__module__", None)
    return "thread {}{}".format(thread.name, _in_other(None if holder == "threading" else holder, module))


def _fork_once() -> None:
    """Fork a child that ends at once, so that libraries end the threads that they do not take through a fork."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of a fork with threads
        pid = os.fork()
        if pid == 0:
            os._exit(0)
    deadline_s = time.monotonic() + _TRIAL_FORK_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() >= deadline_s:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            return
        time.sleep(0.001)


def _short(name: str) -> str:
    name = name.encode("utf-8", "backslashreplace").decode()
    return name if len(name) <= _MAX_NAME_CHARS else "..." + name[-_MAX_NAME_CHARS:]

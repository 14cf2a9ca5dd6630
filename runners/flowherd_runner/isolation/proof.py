"""What a flow process tries before any user code runs, and must not succeed with. Each attempt is a sentence."""

import errno
import os
import socket
import time
from functools import partial
from typing import Callable, Iterable, Iterator, Mapping, NamedTuple, Tuple

#: A documentation address (RFC 5737), which no host has.
_NOWHERE = ("192.0.2.1", 9)
#: How long the first process of the namespace may take to shut itself off, and how often to look, seconds.
_READY_S = 10.0
_LOOK_S = 0.001


class Attempt(NamedTuple):
    """One thing to try: what its failing shows, or nothing yet, and what is wrong when it succeeds."""

    proves: str
    otherwise: str
    #: Returns whether it succeeded.
    succeeds: Callable[[], bool]


class Broken(Exception):
    """An attempt succeeded; the text says which."""


def prove(attempts: Iterable[Attempt]) -> Tuple[str, ...]:
    """Try all of them, and return what was shown. Raises Broken."""
    shown = []
    for attempt in attempts:
        if attempt.succeeds():
            raise Broken(attempt.otherwise)
        if attempt.proves:
            shown.append(attempt.proves)
    return tuple(shown)


def of_covers(spec_file: str, covered: Mapping[str, Tuple[int, int]]) -> Iterator[Attempt]:
    """Yield the attempts to see what is covered; with each path comes what it stood for before (device, inode)."""
    yield Attempt(
        "its own spec.json cannot be opened",
        "{} can be opened".format(spec_file),
        lambda: _can_open(spec_file, os.O_RDONLY) or _can_open(spec_file, os.O_WRONLY),
    )
    for path, identity in covered.items():
        yield Attempt("", "{} can be seen".format(path), partial(_is, path, identity))
    yield Attempt("nothing of {} covered places can be seen".format(len(covered)), "", lambda: False)


def of_processes(runner_pid: int) -> Iterator[Attempt]:
    """Yield the attempts to reach processes outside."""
    yield Attempt(
        "its runner cannot be signalled",
        "process {}, the runner, can be signalled".format(runner_pid),
        lambda: _can_signal(runner_pid),
    )
    yield Attempt(
        "the host cannot be seen through its first process",
        "/proc/1/root leads out of the run",
        _can_look_through_first,
    )


def of_writing(directories: Iterable[str]) -> Iterator[Attempt]:
    """Yield the attempts to change what is read-only."""
    paths = list(directories)
    for path in paths:
        yield Attempt("", "a file can be made in {}".format(path), partial(_can_make_in, path))
    yield Attempt("{} cannot be changed".format(", ".join(paths)), "", lambda: False)


def of_network() -> Iterator[Attempt]:
    """Yield the attempt to reach a network."""
    yield Attempt("no network can be reached", "a network can be reached", _reaches_network)


def _can_open(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is(path: str, identity: Tuple[int, int]) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == identity


def _can_make_in(path: str) -> bool:
    """Whether a file can be made in the directory; it has no name, and is gone at once (O_TMPFILE, open(2))."""
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno == errno.EOPNOTSUPP  # it is the file system alone that does not know such files
    return True


def _can_look_through_first() -> bool:
    """Whether the root directory of the first process can be entered, also once that has shut itself off."""
    deadline_s = time.monotonic() + _READY_S
    while _can_open("/proc/1/root/.", os.O_RDONLY | os.O_DIRECTORY):
        if time.monotonic() > deadline_s:
            return True
        time.sleep(_LOOK_S)
    return False


def _can_signal(pid: int) -> bool:
    """Whether the process `pid` of the host can be reached; in a pid namespace the number is nobody's, or its own."""
    if os.getppid() == 0 and pid in (1, os.getpid()):
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _reaches_network() -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.connect(_NOWHERE)  # asks for a route, and sends nothing
    except OSError:
        return False
    return True

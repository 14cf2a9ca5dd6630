"""What a flow process tries before any user code runs, and must not succeed with. Each attempt is a sentence."""

import errno
import os
import socket
from typing import Callable, Iterable, Iterator, NamedTuple, Tuple

#: A documentation address (RFC 5737), which no host has.
_NOWHERE = ("192.0.2.1", 9)


class Attempt(NamedTuple):
    """One thing to try: what its failing shows, and what is wrong when it succeeds."""

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
        shown.append(attempt.proves)
    return tuple(shown)


def of_covers(spec_file: str, covered: Iterable[str]) -> Iterator[Attempt]:
    """Yield the attempts to see what is flowherd's."""
    yield Attempt(
        "its own spec.json cannot be opened",
        "{} can be opened".format(spec_file),
        lambda: _can_open(spec_file, os.O_RDONLY) or _can_open(spec_file, os.O_WRONLY),
    )
    for path in covered:
        yield Attempt(
            "nothing can be made in {}".format(path),
            "a file can be made in {}".format(path),
            lambda path=path: _can_make_in(path),  # type: ignore[misc]
        )


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
        lambda: _can_open("/proc/1/root/.", os.O_RDONLY | os.O_DIRECTORY),
    )


def of_writing(directories: Iterable[str]) -> Iterator[Attempt]:
    """Yield the attempts to change what is read-only."""
    for path in directories:
        yield Attempt(
            "{} cannot be changed".format(path),
            "a file can be made in {}".format(path),
            lambda path=path: _can_make_in(path),  # type: ignore[misc]
        )


def of_network() -> Iterator[Attempt]:
    """Yield the attempt to reach a network."""
    yield Attempt("no network can be reached", "a network can be reached", _reaches_network)


def _can_open(path: str, flags: int) -> bool:
    try:
        os.close(os.open(path, flags | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _can_make_in(path: str) -> bool:
    """Whether a file can be made in the directory; it has no name, and is gone at once (O_TMPFILE, open(2))."""
    try:
        os.close(os.open(path, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except OSError as error:
        return error.errno == errno.EOPNOTSUPP  # it is the file system alone that does not know such files
    return True


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

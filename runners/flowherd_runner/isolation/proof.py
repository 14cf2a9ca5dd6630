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
#: Number of read-only directories that are named, so that the sentence fits where it is shown.
_MOST_NAMED = 2


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
    yield _of_spec_file(spec_file)
    for path, identity in covered.items():
        yield Attempt("", "{} can be seen".format(path), partial(_is, path, identity))
    yield Attempt("none of {} covered places can be seen".format(len(covered)), "", lambda: False)


def of_rules(spec_file: str, covered: Iterable[str]) -> Iterator[Attempt]:
    """Yield the attempts to read and change what can be seen, and is left out by rules."""
    paths = list(covered)
    yield _of_spec_file(spec_file)
    for path in paths:
        yield Attempt("", "{} can be read".format(path), partial(_can_read, path))
        yield Attempt("", "{} can be changed".format(path), partial(_can_make_directory_in, path))
    yield Attempt("nothing in {} covered places can be read or changed".format(len(paths)), "", lambda: False)


def of_processes(runner_pid: int) -> Iterator[Attempt]:
    """Yield the attempts to reach processes outside."""
    yield from of_signals(runner_pid)
    yield Attempt(
        "/proc/1/root does not lead out of the run",
        "/proc/1/root leads out of the run",
        _can_look_through_first,
    )


def of_signals(runner_pid: int) -> Iterator[Attempt]:
    """Yield the attempt to signal its runner."""
    yield Attempt(
        "the runner cannot be signalled",
        "process {}, the runner, can be signalled".format(runner_pid),
        lambda: _can_signal(runner_pid),
    )


def of_writing(directories: Iterable[str], by_rules: bool = False) -> Iterator[Attempt]:
    """Yield the attempts to change what is read-only; `by_rules`: not by its mount."""
    paths = list(directories)
    can_make = _can_make_directory_in if by_rules else _can_make_in
    for path in paths:
        yield Attempt("", "something can be made in {}".format(path), partial(can_make, path))
    if paths:
        others = " and {} more".format(len(paths) - _MOST_NAMED) if len(paths) > _MOST_NAMED else ""
        yield Attempt("nothing can be made in {}{}".format(", ".join(paths[:_MOST_NAMED]), others), "", lambda: False)


def of_network() -> Iterator[Attempt]:
    """Yield the attempt to reach a network."""
    yield Attempt("no network can be reached", "a network can be reached", _reaches_network)


def _of_spec_file(path: str) -> Attempt:
    return Attempt(
        "spec.json cannot be opened",
        "{} can be opened".format(path),
        lambda: _can_open(path, os.O_RDONLY) or _can_open(path, os.O_WRONLY),
    )


def _can_read(path: str) -> bool:
    """Whether a file can be read: the path itself, or the first one in that directory."""
    if os.path.isfile(path):
        return _can_open(path, os.O_RDONLY)
    try:
        with os.scandir(path) as entries:
            first = next((entry.path for entry in entries if entry.is_file(follow_symlinks=False)), None)
    except OSError:
        return False
    return first is not None and _can_open(first, os.O_RDONLY)


def _can_make_directory_in(path: str) -> bool:
    made = os.path.join(path, ".flowherd-proof-{}".format(os.getpid()))
    try:
        os.mkdir(made)
        os.rmdir(made)
    except OSError as error:
        return error.errno == errno.EEXIST
    return True


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

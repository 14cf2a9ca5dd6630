"""Allows one claim at a time on this host, for backends that do not arbitrate claims themselves.

Older servers accept every Submitted and ignore versions. Between reading that a run is still waiting and reading back
whose claim it carries, no other agent of this host may claim; agents of other hosts cannot be kept out.

The lock is in a directory that no other user can write to: /run/flowherd for root, the user's runtime directory
($XDG_RUNTIME_DIR, /run/user/UID), else /tmp/flowherd-UID. The runtime directories are all locked, in the same order by
every agent, because one agent may have the variable and another not. Agents of 0.1.0 lock a file in the temporary
directory; that one is taken too, until the next release. If another user has taken its name, it is left out.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loguru import logger

from flowherd.errors import ClaimLost, ConfigurationError
from flowherd.private_directory import make_private_directory, reason_against
from flowherd.recurring_error import RecurringError

#: Longest wait for the lock, seconds. A claim is a few requests.
TIMEOUT_S = 30.0
#: Wait after which the holder is logged, seconds.
_LOG_AFTER_S = 5.0
#: Pause between two tries, seconds.
_TRY_S = 0.02
_NAME = "flowherd"
#: Directories of the system.
_RUN, _RUNTIME_DIRECTORIES, _TEMPORARY = Path("/run"), Path("/run/user"), Path("/tmp")

#: Locks by which the threads of this process take turns, by backend; only one of them then tries for the files.
_TURNS: dict[str, threading.Lock] = {}
_TURN_S = 0.2
_locking = RecurringError("lock claims on this host, so none is made", logger)


@dataclass
class _Wait:
    """A wait for several locks, one after another, until `deadline_s` (monotonic) or until `is_stopping`."""

    deadline_s: float
    is_stopping: Callable[[], bool]

    def for_lock(self, try_once: Callable[[], bool], holder: Callable[[], str], what: str) -> None:
        """Wait until `try_once` has the lock; it pauses when it fails. Raises ClaimLost."""
        began_s, is_logged = time.monotonic(), False
        while not try_once():
            waited_s = time.monotonic() - began_s
            if self.is_stopping():
                raise ClaimLost("not claimed: the agent is stopping")
            if time.monotonic() >= self.deadline_s:
                logger.warning("Claiming nothing now: {} has held {} for {:.0f} s", holder(), what, waited_s)
                raise ClaimLost(f"not claimed: {holder()} holds {what}")
            if not is_logged and waited_s >= _LOG_AFTER_S:
                is_logged = True
                logger.warning("Waiting to claim: {} holds {}", holder(), what)
        if is_logged:
            logger.info("Can claim after {:.1f} s: got {}", time.monotonic() - began_s, what)


@contextlib.contextmanager
def claiming_alone(
    backend_address: str, is_stopping: Callable[[], bool], timeout_s: float = TIMEOUT_S
) -> Iterator[None]:
    """Hold the lock of this user's agents on this host for claims at this backend.

    Raises ClaimLost if the lock cannot be had within `timeout_s`, or before the agent stops: no claim is made then.
    """
    wait = _Wait(time.monotonic() + timeout_s, is_stopping)
    with contextlib.ExitStack() as held:
        turn = _TURNS.setdefault(backend_address, threading.Lock())
        wait.for_lock(lambda: turn.acquire(timeout=_TURN_S), lambda: "another claim of this agent", "the turn to claim")
        held.callback(turn.release)
        try:
            for path in lock_files(backend_address):
                held.callback(os.close, _locked(path, wait))
            _lock_as_before(backend_address, wait, held)
        except (OSError, ConfigurationError) as error:
            _locking.failed(error)
            raise ClaimLost(f"not claimed: {error}") from error
        _locking.recovered()
        yield


def lock_files(backend_address: str) -> list[Path]:
    """Return the paths of the lock files, in the order in which they are locked; make their directories.

    Raises OSError or ConfigurationError if there is no place for one.
    """
    name = f"claims-{hashlib.sha256(backend_address.encode()).hexdigest()[:16]}.lock"
    return [directory / name for directory in _directories()]


def lock_directories(environ: Mapping[str, str]) -> list[Path]:
    """Return the directories in which the locks of this user's agents can be; makes none."""
    uid = os.geteuid()
    return [*(place / _NAME for place in _places(uid, environ)), _in_temporary(uid)]


def _places(uid: int, environ: Mapping[str, str]) -> list[Path]:
    """Return the directories in which there may be one of ours."""
    if uid == 0:
        return [_RUN]
    given = environ.get("XDG_RUNTIME_DIR", "")
    return [*([Path(given)] if given.startswith("/") else []), _RUNTIME_DIRECTORIES / str(uid)]


def _directories() -> list[Path]:
    uid = os.geteuid()
    places = _places(uid, os.environ)
    if uid == 0:
        places = [place for place in places if os.access(place, os.W_OK)]
    else:
        places = sorted({place.resolve() for place in places if _is_own(place)})
    usable = [place / _NAME for place in places if _is_made(place / _NAME)]
    if not usable:
        usable = [_in_temporary(uid)]
        make_private_directory(usable[0], "directory of the claim lock")
    return usable


def _in_temporary(uid: int) -> Path:
    return _TEMPORARY / f"{_NAME}-{uid}"


def _is_made(directory: Path) -> bool:
    """Make the directory and return whether it can be used; another user may have taken its name."""
    try:
        make_private_directory(directory, "directory of the claim lock")
    except (OSError, ConfigurationError) as error:
        logger.debug("No claim lock there: {}", error)
        return False
    return True


def _is_own(place: Path) -> bool:
    try:
        status = place.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and reason_against(status) is None and os.access(place, os.W_OK)


def _lock_as_before(backend_address: str, wait: _Wait, held: contextlib.ExitStack) -> None:
    """Take the lock of 0.1.0 too, so that old and new agents keep each other out. Raises ClaimLost."""
    name = hashlib.sha256(backend_address.encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"flowherd-claims-{os.getuid()}-{name}.lock"
    try:
        held.callback(os.close, _locked(path, wait))
    except (OSError, ConfigurationError) as error:  # another user can take any name there
        logger.debug("The claim lock of release 0.1.0 is left out: {}", error)


def _locked(path: Path, wait: _Wait) -> int:
    """Return a descriptor that holds the lock; our pid is in the file.

    Raises ClaimLost if it cannot be had in time, OSError if the file cannot be made, ConfigurationError if it is
    another user's.
    """
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        try:
            reason = reason_against(os.fstat(fd))
            if reason is not None:
                raise ConfigurationError(f"the claim lock {path} {reason}")
            wait.for_lock(partial(_is_locked, fd), partial(_holder, fd), f"the claim lock {path}")
            if _is_named(fd, path):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # removed while this process waited, so another may lock a new file


def _is_named(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(_TRY_S)
        return False
    return True


def _holder(fd: int) -> str:
    """Return who holds the lock, for messages; agents of 0.1.0 do not write their pid."""
    pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return f"process {pid}" if pid.isdigit() else "another agent"

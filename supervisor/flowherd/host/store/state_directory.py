"""The agent's state directory: the locks against a second agent, the agent's identity, and its run directories.

A cleaner of temporary files may remove what nobody has touched for days. So the directory itself is locked as well as
the file agent.lock, which agents of 0.1.0 lock alone: a removed file then does not let a second agent in. systemd's
cleaner leaves locked directories alone (tmpfiles.d(5)); after any other, `repair` makes the files again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from loguru import logger

from flowherd.errors import StateDirectoryBusy
from flowherd.host.store.blank_directories import BlankDirectories
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_names import IDENTITY_FILE, LOCK_FILE, RUNS_DIRECTORY
from flowherd.host.store.state_place import had_removed, mark_place
from flowherd.private_directory import make_private_directory
from flowherd.values import checked_id
from flowherd_runner.contract import files

#: How long to try to lock the directory itself, seconds: a cleaner of temporary files locks it for a moment.
_DIRECTORY_LOCK_S = 2.0
#: Number of directories above a new state directory that are flushed: `agents`, the home, and where that is.
_NEW_PARENTS = 3


class StateDirectory:
    """An open state directory. While it is open, no other agent can open it.

    Raises StateDirectoryBusy if another agent uses it, ConfigurationError if it belongs to another user or is a link,
    OSError if it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / RUNS_DIRECTORY
        #: Run directories for runs to come.
        self.blanks = BlankDirectories(path)
        #: A poll that a stop no longer waits for may call `repair` when the directory is closed.
        self._closing = threading.Lock()
        self._closed = False
        if (had := had_removed(path)) is not None:
            raise _busy(path, f"pid {had[0]}; {had[1]} was removed, and that agent makes it again soon")
        with contextlib.ExitStack() as undo:
            self._make()
            self._lock_fd = _locked_file(path / LOCK_FILE)
            undo.callback(os.close, self._lock_fd)
            self._directory_fd = _locked_directory(path)
            undo.callback(os.close, self._directory_fd)
            self.identity = _stored_identity(path) or _new_identity(path)
            undo.pop_all()
        self._mark = mark_place(path)

    def _make(self) -> None:
        make_private_directory(self.path, "state directory")
        self.path.chmod(0o700)
        make_private_directory(self.runs, "directory of runs")

    def repair(self) -> list[str]:
        """Make again what was removed since the directory was opened, and return the names of it.

        Nothing is made once the directory is closed: it may be another agent's then.

        Raises StateDirectoryBusy if another agent has taken the place meanwhile, ConfigurationError if something is
        there that must not be used, OSError if something cannot be made.
        """
        with self._closing:
            return [] if self._closed else self._repaired()

    def _repaired(self) -> list[str]:
        removed = []
        if not _is_open_as(self._directory_fd, self.path):
            removed.append(str(self.path))
            self._make()
            fd = _locked_directory(self.path)
            os.close(self._directory_fd)
            self._directory_fd = fd
        if not self.runs.is_dir():
            removed.append(RUNS_DIRECTORY)
            self._make()
        if not _is_open_as(self._lock_fd, self.path / LOCK_FILE):
            removed.append(LOCK_FILE)
            fd = _locked_file(self.path / LOCK_FILE)
            os.close(self._lock_fd)
            self._lock_fd = fd
        if not os.path.lexists(self.path / IDENTITY_FILE):
            removed.append(IDENTITY_FILE)
            _write_identity(self.path, self.identity)
        return removed

    def run_directory(self, flow_run_id: str) -> RunDirectory:
        """Return the directory of one run, which need not exist. Raises ValueError if the id is not a UUID."""
        return RunDirectory(self.runs / checked_id(flow_run_id), flow_run_id)

    def found_runs(self) -> Iterator[RunDirectory]:
        """Yield the existing run directories. Skips everything else, links to directories too."""
        for entry in sorted(self.runs.iterdir()):
            directory = self._run_directory_or_none(entry.name)
            if directory is not None:
                yield directory

    def foreign_names(self) -> list[str]:
        """Return the names of entries that are not run directories."""
        return sorted(entry.name for entry in self.runs.iterdir() if self._run_directory_or_none(entry.name) is None)

    def _run_directory_or_none(self, name: str) -> RunDirectory | None:
        try:
            directory = self.run_directory(name)
        except ValueError:
            return None
        return directory if directory.is_directory() else None

    def close(self) -> None:
        """Release the directory to other agents."""
        with self._closing:
            self._closed = True
            if self._mark is not None:
                os.close(self._mark)
            os.close(self._lock_fd)
            os.close(self._directory_fd)


def _is_open_as(fd: int, path: Path) -> bool:
    """Return whether `path` still names what the descriptor has open."""
    try:
        named = path.lstat()
    except OSError:
        return False
    opened = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _locked_file(path: Path) -> int:
    fd = files.open_regular(str(path), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise _busy(path.parent, f"pid {holder or 'unknown'}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _locked_directory(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    deadline_s = time.monotonic() + _DIRECTORY_LOCK_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                os.close(fd)
                raise _busy(path, f"whose {LOCK_FILE} was removed") from None
        time.sleep(0.05)


def _busy(path: Path, who: str) -> StateDirectoryBusy:
    return StateDirectoryBusy(
        f"another agent ({who}) uses the state directory {path}; "
        f"stop it, or give this agent another name (-n) or state directory (--state-dir)"
    )


def _stored_identity(path: Path) -> str:
    """Return the identity in this agent's claims. It survives restarts, so that the agent recognises its own claims."""
    try:
        stored = files.read_json(str(path), IDENTITY_FILE) or {}
    except (ValueError, OSError) as error:
        # Claims made before this carry the old identity; those of known runs are in their spec.json.
        logger.warning("{} is damaged, so the agent takes a new identity: {}", path / IDENTITY_FILE, error)
        (path / IDENTITY_FILE).rename(path / f"{IDENTITY_FILE}.set-aside-{time.time_ns()}")
        return ""
    return stored["identity"] if isinstance(stored.get("identity"), str) else ""


def _new_identity(path: Path) -> str:
    identity = uuid.uuid4().hex
    _write_identity(path, identity)
    for parent in list(path.parents)[:_NEW_PARENTS]:  # some of them may have been made just now too
        with contextlib.suppress(OSError):
            files.sync_directory(str(parent))
    return identity


def _write_identity(path: Path, identity: str) -> None:
    files.write_json(str(path), IDENTITY_FILE, {"identity": identity})

"""The agent's state directory: the lock against a second agent, the agent's identity, and its run directories."""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from loguru import logger

from flowherd.errors import StateDirectoryBusy
from flowherd.host.store.run_directory import RunDirectory
from flowherd.private_directory import make_private_directory
from flowherd.values import checked_id
from flowherd_runner.contract import files

_LOCK_FILE = "agent.lock"
_IDENTITY_FILE = "agent.json"


class StateDirectory:
    """An open state directory. While it is open, no other agent can open it.

    Raises StateDirectoryBusy if another agent uses it, OSError if it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        make_private_directory(self.runs)
        path.chmod(0o700)
        self._lock_fd = _locked(path / _LOCK_FILE)
        self.identity = _identity(path)

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
        os.close(self._lock_fd)


def _locked(path: Path) -> int:
    fd = files.open_regular(str(path), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(fd, 32).decode(errors="replace").strip()
        os.close(fd)
        raise StateDirectoryBusy(
            f"another agent (pid {holder or 'unknown'}) uses the state directory {path.parent}; "
            f"stop it, or give this agent another name (-n) or state directory (--state-dir)"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _identity(path: Path) -> str:
    """Return the identity in this agent's claims. It survives restarts, so that the agent recognises its own claims."""
    try:
        stored = files.read_json(str(path), _IDENTITY_FILE) or {}
    except (ValueError, OSError) as error:
        # Claims made before this carry the old identity; those of known runs are in their spec.json.
        logger.warning("{} is damaged, so the agent takes a new identity: {}", path / _IDENTITY_FILE, error)
        (path / _IDENTITY_FILE).rename(path / f"{_IDENTITY_FILE}.set-aside-{time.time_ns()}")
        stored = {}
    if isinstance(stored.get("identity"), str) and stored["identity"]:
        return str(stored["identity"])
    identity = uuid.uuid4().hex
    files.write_json(str(path), _IDENTITY_FILE, {"identity": identity})
    return identity

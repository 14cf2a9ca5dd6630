"""The agent's state directory: who it is across restarts, that it is alone, and where its runs are."""

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
from flowherd.values import checked_id
from flowherd_runner.contract import files

_LOCK_FILE = "agent.lock"
_IDENTITY_FILE = "agent.json"


class StateDirectory:
    """An open state directory; while it is open, no other agent can open it.

    Raises StateDirectoryBusy when another agent has it, OSError when it cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs = path / "runs"
        self.runs.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        self._lock_fd = _locked(path / _LOCK_FILE)
        self.identity = _identity(path)

    def run_directory(self, flow_run_id: str) -> RunDirectory:
        """The directory of one run, whether it exists or not. Raises ValueError when the id is no UUID."""
        return RunDirectory(self.runs / checked_id(flow_run_id), flow_run_id)

    def found_runs(self) -> Iterator[RunDirectory]:
        """The run directories that are there; what is none, links to directories among it, is passed over."""
        for entry in sorted(self.runs.iterdir()):
            directory = self._run_directory_or_none(entry.name)
            if directory is not None:
                yield directory

    def foreign_names(self) -> list[str]:
        """Names among the run directories that are none."""
        return sorted(entry.name for entry in self.runs.iterdir() if self._run_directory_or_none(entry.name) is None)

    def _run_directory_or_none(self, name: str) -> RunDirectory | None:
        try:
            directory = self.run_directory(name)
        except ValueError:
            return None
        return directory if directory.is_directory() else None

    def close(self) -> None:
        """Let another agent have it."""
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
            f"stop it, or give this one another name (-n) or another directory (--state-dir)"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def _identity(path: Path) -> str:
    """What this agent's claims carry; the same after a restart, so that its own claims are recognised."""
    try:
        stored = files.read_json(str(path), _IDENTITY_FILE) or {}
    except (ValueError, OSError) as error:
        # Claims that are under way carry the old one; each run's own claim is in its spec.json.
        logger.warning("The agent takes a new identity, {} is damaged: {}", path / _IDENTITY_FILE, error)
        (path / _IDENTITY_FILE).rename(path / f"{_IDENTITY_FILE}.set-aside-{time.time_ns()}")
        stored = {}
    if isinstance(stored.get("identity"), str) and stored["identity"]:
        return str(stored["identity"])
    identity = uuid.uuid4().hex
    files.write_json(str(path), _IDENTITY_FILE, {"identity": identity})
    return identity

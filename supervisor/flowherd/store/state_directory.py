"""The agent's state directory: who it is across restarts, that it is alone, and where its runs are."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from flowherd.errors import StateDirectoryBusy
from flowherd.store.run_directory import RunDirectory
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
        """The run directories that are there; other names are passed over."""
        for entry in sorted(self.runs.iterdir()):
            try:
                yield self.run_directory(entry.name)
            except ValueError:
                continue

    def close(self) -> None:
        """Let another agent have it."""
        os.close(self._lock_fd)


def _locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
    stored = files.read_json(str(path), _IDENTITY_FILE)
    if stored is not None and isinstance(stored.get("identity"), str):
        return str(stored["identity"])
    identity = uuid.uuid4().hex
    files.write_json(str(path), _IDENTITY_FILE, {"identity": identity})
    return identity

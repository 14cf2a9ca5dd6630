"""Finds the agent that uses a state directory without taking its locks, which would stop an agent that starts then."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from flowherd.agent.control_path import SOCKET_FILE
from flowherd.host.store.state_names import IDENTITY_FILE, LOCK_FILE, RUNS_DIRECTORY
from flowherd.host.store.state_place import had_removed

_LOCKS = Path("/proc/locks")


def agent_pid(state_dir: Path) -> int | None:
    """Return the pid of the agent that uses the state directory; None if none does.

    The agent has locked agent.lock and written its pid there; if that file was removed, it still holds the lock of the
    directory; if that was removed too, it has marked its place (state_place.py), or, of 0.1.0, has open what was
    removed. The list of the kernel (proc(5), /proc/locks) names inodes. Its devices are, on btrfs and overlayfs, not
    those of stat(2); inode and pid together identify the lock well enough.
    """
    pid = _holder_of_file(state_dir / LOCK_FILE) or _holder_of_directory(state_dir)
    had = had_removed(state_dir) if pid is None else None
    return had[0] if had is not None else pid


def missing_files(state_dir: Path) -> list[str]:
    """Return the names of what a running agent has in its state directory and what is not there."""
    return [name for name in (SOCKET_FILE, LOCK_FILE, IDENTITY_FILE, RUNS_DIRECTORY) if not (state_dir / name).exists()]


def _holder_of_file(path: Path) -> int | None:
    try:
        inode = path.stat().st_ino
        pid = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(pid) if any(str(holder) == pid for holder in _holders(inode)) else None


def _holder_of_directory(path: Path) -> int | None:
    try:
        inode = path.stat().st_ino
    except OSError:
        return None
    return next((pid for pid in _holders(inode) if _has_open(pid, path)), None)


def _holders(inode: int) -> Iterator[int]:
    """Yield the pids that hold a flock(2) of a file with this inode number, on whatever device."""
    try:
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return
    # 1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF; a process that waits for the lock has "->" in the second field.
    for fields in map(str.split, lines):
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            yield int(fields[4])


def _has_open(pid: int, path: Path) -> bool:
    """Return whether the process has `path` open; True for one whose descriptors may not be read."""
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]  # noqa: PTH115 - not a path
    except PermissionError:
        return True
    except OSError:
        return False
    return str(path.resolve()) in links

"""Finds the holder of a lock file without taking the lock, which would stop an agent that starts at that moment."""

from __future__ import annotations

from pathlib import Path

_LOCKS = Path("/proc/locks")


def lock_holder(path: Path) -> int | None:
    """Return the pid that holds the flock(2) of `path` and has written itself into the file; None if there is none.

    The kernel's list (proc(5), /proc/locks) names inodes. It also names devices, but on btrfs and overlayfs not those
    that stat(2) reports; inode and pid together identify the lock well enough.
    """
    try:
        inode = path.stat().st_ino
        pid = path.read_text(encoding="ascii", errors="replace").strip()
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF; a process that waits for the lock has "->" in the second field.
    locks = [line.split() for line in lines]
    held = any(f[1] == "FLOCK" and f[4] == pid and f[5].rpartition(":")[2] == str(inode) for f in locks)
    return int(pid) if held else None

"""Who holds a lock file, asked without taking the lock: one taken to look would refuse an agent that starts then."""

from __future__ import annotations

from pathlib import Path

_LOCKS = Path("/proc/locks")


def lock_holder(path: Path) -> int | None:
    """The pid that holds the flock(2) of `path` and has written itself into it; None when nobody does.

    The kernel's list (proc(5), /proc/locks) names inodes. It names devices too, but on btrfs and overlayfs others
    than stat(2) tells; inode and pid together are enough.
    """
    try:
        inode = path.stat().st_ino
        pid = path.read_text(encoding="ascii", errors="replace").strip()
        lines = _LOCKS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # 1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF; who waits for it has "->" in the second place.
    locks = [line.split() for line in lines]
    held = any(f[1] == "FLOCK" and f[4] == pid and f[5].rpartition(":")[2] == str(inode) for f in locks)
    return int(pid) if held else None

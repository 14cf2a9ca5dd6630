"""Which process has a run's lock open: the kernel's own word on who the runner is, whatever a file says."""

from __future__ import annotations

import os
from pathlib import Path

from flowherd.host.processes import fork_lock
from flowherd_runner.contract import identity


def has_open_within(pid: int, directory: Path) -> bool:
    """Whether the process `pid` has a file of `directory` open (proc(5), /proc/PID/fd); False where none can be read.

    By name, so that a file counts that was replaced or removed meanwhile.
    """
    beginning = f"{directory.resolve()}/"
    return any(_target(link).startswith(beginning) for link in _links(pid))


def only_holder(path: Path) -> tuple[int, int] | None:
    """Pid and start ticks of the one process other than this that has `path` open; None when it is not just one.

    While a runner is being started, its fork server and its flow process have the lock open too, for moments.
    """
    try:
        lock = path.lstat()
    except OSError:
        return None
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - thousands of names
    with fork_lock.FORK_LOCK:
        holders = [pid for pid in pids if pid != os.getpid() and any(_is(link, lock) for link in _links(pid))]
    status = identity.process_status(holders[0]) if len(holders) == 1 else None
    return (holders[0], status[1]) if status is not None else None


def _links(pid: int) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:  # gone, or another user's
        return []


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - see _is
    except OSError:
        return ""


def _is(link: str, wanted: os.stat_result) -> bool:
    try:
        found = os.stat(link)  # noqa: PTH116 - a path object for each descriptor of each process costs more
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)

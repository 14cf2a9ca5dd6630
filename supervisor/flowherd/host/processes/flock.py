"""The locks of runs: finds the process that holds one, and starts programs without mistaking them for a holder.

Between fork(2) and execve(2) a child has all descriptors of its parent, close-on-exec or not (open(2), O_CLOEXEC), and
a flock(2) is held as long as any process has its descriptor. So while this process starts a program, the child seems to
hold every lock that this process holds or has just released.
"""

from __future__ import annotations

import os
import subprocess
import threading
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flowherd_runner.contract import files, identity

#: What follows the name of a file that was removed since it was opened (proc(5), /proc/PID/fd).
_REMOVED = " (deleted)"
#: Held while `start_program` forks. Hold it to be sure that no such child exists while locks are examined.
FORK_LOCK = threading.Lock()
#: The children of this program, as long as somebody has their Popen object; orphans.py leaves them alone.
OWN_CHILDREN: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


def start_program(
    argv: Sequence[str], *, env: Mapping[str, str], output: int, pass_fds: Sequence[int] = (), new_session: bool = False
) -> subprocess.Popen[bytes]:
    """Start a program, without input and with `output` (a descriptor or subprocess.PIPE) for stdout and stderr each.

    Raises OSError if it cannot be started, ValueError if an argument or variable contains a null character.
    """
    with FORK_LOCK:  # Popen returns once the child has called execve(2)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=env,
            pass_fds=pass_fds,
            start_new_session=new_session,
        )
        OWN_CHILDREN.add(process)
        return process


def has_open_within(pid: int, directory: Path) -> bool:
    """Return whether the process has a file of `directory` open (proc(5), /proc/PID/fd); False if unreadable.

    Compares names, so that files count that were replaced or removed since they were opened.
    """
    prefix = f"{directory.resolve()}/"
    return any(_target(link).startswith(prefix) for link in _links(pid))


def only_holder(path: Path) -> tuple[int, int] | None:
    """Return pid and start ticks of the one other process that has `path` open; None if there is not exactly one.

    While a runner is being started, its fork server and its flow process have the lock open too, for a moment.
    """
    try:
        lock = path.lstat()
    except OSError:
        return None
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - thousands of names
    with FORK_LOCK:
        holders = [pid for pid in pids if pid != os.getpid() and any(_is(link, lock) for link in _links(pid))]
    status = identity.process_status(holders[0]) if len(holders) == 1 else None
    return (holders[0], status[1]) if status is not None else None


def runners_within(directory: Path) -> list[tuple[int, int]]:
    """Return pid and start ticks of the processes that have the lock or the error file of a run directory open.

    These are its runner and, while that is being started, its fork server. Finds them by name, also after the files
    were removed. Looks at all processes.
    """
    names = [f"{directory.resolve()}/{name}" for name in (files.LOCK_FILE, files.RUNNER_ERRORS_FILE)]
    with FORK_LOCK:
        found = openers([*names, *(f"{name}{_REMOVED}" for name in names)])
    statuses = ((pid, identity.process_status(pid)) for pid in found)
    return [(pid, status[1]) for pid, status in statuses if status is not None and status[2] not in "ZX"]


def removed_from(path: Path) -> list[int]:
    """Return the pids of other processes that have open what was removed under the name `path`."""
    return openers([f"{path.resolve()}{_REMOVED}"])


def openers(names: Collection[str]) -> list[int]:
    """Return the pids of other processes that have one of `names` open, named as in /proc. Looks at all processes."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - thousands of names
    return [pid for pid in pids if pid != os.getpid() and any(_target(link) in names for link in _links(pid))]


def _links(pid: int) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:  # it has ended, or belongs to another user
        return []


def _target(link: str) -> str:
    try:
        return os.readlink(link)  # noqa: PTH115 - see _is
    except OSError:
        return ""


def _is(link: str, wanted: os.stat_result) -> bool:
    try:
        found = os.stat(link)  # noqa: PTH116 - faster than a path object for each descriptor of each process
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)

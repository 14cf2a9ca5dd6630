"""The locks of runs: finds the runner that holds one, and starts programs without mistaking them for a holder.

A runner shows its run as its command line (identity.shows_runner). Its descriptors only root can read; those of a
runner of 0.1.0, which shows nothing, its own user too.

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


def is_runner(pid: int, flow_run_id: str, directory: Path) -> bool:
    """Return whether the process is the runner of the run in `directory`, which may have been moved since.

    It shows that it is, or has a file of the directory open (proc(5), /proc/PID/fd), if that may be read: names are
    compared, so that files count that were replaced or removed since they were opened.
    """
    prefix = f"{directory.resolve()}/"
    return identity.shows_runner(pid, flow_run_id) or any(_target(link).startswith(prefix) for link in _links(pid))


def only_runner(directory: Path) -> tuple[int, int] | None:
    """Return pid and start ticks of the runner of this run directory, whose lock is held; None if that is not certain.

    It is the one process that shows it, else the one that has the lock open. While a runner is being started, its fork
    server and its flow process have the lock open too, for a moment.
    """
    pids = _others()
    found = _showing(directory, pids)
    if not found:
        try:
            lock = (directory / files.LOCK_FILE).lstat()
        except OSError:
            return None
        with FORK_LOCK:
            found = [pid for pid in pids if any(_is(link, lock) for link in _links(pid))]
    status = identity.process_status(found[0]) if len(found) == 1 else None
    return (found[0], status[1]) if status is not None else None


def runners_within(directory: Path) -> list[tuple[int, int]]:
    """Return pid and start ticks of the processes that are the runner of a run directory, perhaps of removed files.

    These are its runner and, while that is being started, its fork server: they have the lock or the error file open.
    Finds them by name, also after the files were removed. Looks at all processes.
    """
    names = [f"{directory.resolve()}/{name}" for name in (files.LOCK_FILE, files.RUNNER_ERRORS_FILE)]
    with FORK_LOCK:
        found = {*_showing(directory, _others()), *openers([*names, *(f"{name}{_REMOVED}" for name in names)])}
    statuses = ((pid, identity.process_status(pid)) for pid in sorted(found))
    return [(pid, status[1]) for pid, status in statuses if status is not None and status[2] not in "ZX"]


def _showing(directory: Path, pids: Collection[int]) -> list[int]:
    """Return those of `pids` that show that they are the runner of this run directory."""
    return [pid for pid in pids if identity.shows_runner(pid, directory.name, str(directory))]


def _others() -> list[int]:
    return [pid for pid in identity.all_pids() if pid != os.getpid()]


def removed_from(path: Path) -> list[int]:
    """Return the pids of other processes that have open what was removed under the name `path`."""
    return openers([f"{path.resolve()}{_REMOVED}"])


def openers(names: Collection[str]) -> list[int]:
    """Return the pids of other processes that have one of `names` open, named as in /proc. Looks at all processes."""
    return [pid for pid in _others() if any(_target(link) in names for link in _links(pid))]


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

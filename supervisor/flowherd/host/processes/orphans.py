"""Reaps orphans that the kernel gives to this process, as pid 1 of a container or as a sub-reaper (prctl(2)).

Each process has one place that waits for it. The status of a child that this program has started itself belongs to the
`subprocess.Popen` that started it; `start_program` and `own_child` name these children, and they are left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from flowherd.host.processes.flock import FORK_LOCK, OWN_CHILDREN

#: Time between two looks for ended orphans, seconds.
_INTERVAL_S = 1.0
#: prctl(2)
_PR_GET_CHILD_SUBREAPER = 37


def own_child(process: subprocess.Popen[bytes]) -> None:
    """Leave this child's exit status to `process`."""
    OWN_CHILDREN.add(process)


def gets_orphans() -> bool:
    """Return whether the kernel makes orphans children of this process."""
    if os.getpid() == 1:
        return True
    answer = ctypes.c_int(0)
    libc = ctypes.CDLL(None)
    return libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0 and bool(answer.value)


def reap() -> list[int]:
    """Take the exit status of every orphan that has ended, and return their pids."""
    with FORK_LOCK:  # a child that is being started is not among our own yet
        own = {process.pid for process in list(OWN_CHILDREN)}
        return [pid for pid in _children() if pid not in own and _has_ended(pid)]


@contextlib.contextmanager
def reaping_orphans() -> Iterator[None]:
    """Reap orphans in a thread until the end of the block, if there can be any.

    For programs that start all their children by `start_program`, or name them to `own_child`.
    """
    if not gets_orphans():
        yield
        return
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_INTERVAL_S):
            reap()

    threading.Thread(target=look, name="orphans", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _children() -> list[int]:
    """Return the pids of this process's children (proc(5): they are listed by the thread that has them)."""
    pids: list[int] = []
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has ended; or the kernel has no such file
            pids.extend(int(pid) for pid in (thread / "children").read_text().split())
    return pids


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False

"""How often the kernel's out-of-memory killer has struck, from the most specific counter that this process may read.

The counters say that a process was killed, never which one; exit_record.py decides what that proves about a run.
"""

import os
from typing import NamedTuple, Optional

from flowherd_runner.contract.files import read_content

_VMSTAT = "/proc/vmstat"
_EVENTS_FILE = "memory.events"


class OomCount(NamedTuple):
    """Number of kills so far, and the file that it was read from."""

    kills: int
    source: str
    #: Whether the counter counts only this run's processes.
    own: bool


def oom_count(own_cgroup: Optional[str]) -> Optional[OomCount]:
    """Return the count of the run's own cgroup (cgroup-v2.rst, memory.events), else of the host (/proc/vmstat).

    `own_cgroup` is a directory, or None when the run has none. Returns None when no counter can be read: before Linux
    4.13, or without /proc/vmstat.
    """
    if own_cgroup is not None:
        path = os.path.join(own_cgroup, _EVENTS_FILE)
        kills = _counter(path, "oom_kill")
        if kills is not None:
            return OomCount(kills, path, True)
    kills = _counter(_VMSTAT, "oom_kill")
    return None if kills is None else OomCount(kills, _VMSTAT, False)


def _counter(path: str, name: str) -> Optional[int]:
    try:
        content = read_content(path) or b""
    except OSError:
        return None
    # Not line by line, because a host has some 200 counters.
    _, found, rest = (b"\n" + content).partition(b"\n" + name.encode() + b" ")
    value = rest.partition(b"\n")[0]
    return int(value) if found and value.isdigit() else None

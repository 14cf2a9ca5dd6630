"""How often the kernel's out-of-memory killer has struck: the nearest counter that this process may read.

The counters say that a process was killed, never which; what that proves about one run is verdict.py's business.
"""

import os
from typing import NamedTuple, Optional

_VMSTAT = "/proc/vmstat"
_EVENTS_FILE = "memory.events"


class OomCount(NamedTuple):
    """Kills so far, and where that was read."""

    kills: int
    source: str
    #: Only this run's processes count there.
    own: bool


def oom_count(own_cgroup: Optional[str]) -> Optional[OomCount]:
    """What the run's own cgroup counts (cgroup-v2.rst, memory.events), else the whole host (/proc/vmstat oom_kill).

    `own_cgroup` is a directory; None where the run has none. None where no counter can be read: before Linux 4.13, or
    without /proc/vmstat.
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
        with open(path) as file:
            for line in file:
                word, _, value = line.partition(" ")
                if word == name:
                    return int(value)
    except (OSError, ValueError):
        pass
    return None

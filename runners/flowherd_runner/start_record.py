"""The file `started`: who the runner is, and what is certain before any of the user's code runs (contract/files.py)."""

import os
from typing import Any, Callable, Dict, Optional

from flowherd_runner.contract.identity import boot_id, own_start_ticks
from flowherd_runner.contract.isolation import Isolation, in_force_of, summary
from flowherd_runner.contract.oom import oom_count


def start_record(flow_pid: int, started_at: str, isolation: Optional[Dict[str, Any]]) -> Dict[str, Any]:
    """Return its content for a flow process that is about to start; `isolation` is None for a run without a level."""
    of_host = oom_count(None)
    record = {
        "pid": os.getpid(),
        "start_ticks": own_start_ticks(),
        "boot_id": boot_id(),
        "started_at": started_at,
        "flow_pid": flow_pid,
        "oom_kills": of_host.kills if of_host is not None else None,
    }
    return record if isolation is None else dict(record, isolation=isolation)


def note_isolation(record: Optional[Dict[str, Any]], asked: Isolation, notice: Callable[[str, bool], None]) -> None:
    """Give the first line of the run's log to `notice`: what keeps it apart. A run that was refused has none."""
    found = None if record is None else in_force_of(record)
    text = summary(found, asked)
    if found is not None and text:
        notice(text, found.level != asked.level)

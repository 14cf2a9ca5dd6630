"""The file `started`: who the runner is, and what is certain before any of the user's code runs (contract/files.py)."""

import os
from typing import Any, Dict, Optional

from flowherd_runner.contract.identity import boot_id, own_start_ticks
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

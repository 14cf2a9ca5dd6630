"""Checked values from the JSON files of a run directory, and the runner's own record of its start.

A file may hold anything. What does not have the contract's shape raises TypeError or KeyError; the caller says which
file is damaged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from flowherd.times import read_time
from flowherd_runner.contract.files import MAX_SECONDS
from flowherd_runner.contract.isolation import InForce, in_force_of

#: First number that is not a pid on a 64-bit kernel (PID_MAX_LIMIT; proc(5), pid_max).
_PID_END = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Started:
    """Who the runner is, as it wrote before any user code ran."""

    pid: int
    start_ticks: int
    boot_id: str
    #: Pid of the flow process; None until it was forked.
    flow_pid: int | None
    #: Number of out-of-memory kills that the kernel had counted at the start; None if it could not be read.
    oom_kills: int | None = None
    #: When the runner wrote this; None if it did not say so, or not credibly.
    started_at: datetime | None = None
    #: What keeps the run apart, as its flow process has found it in force; None for a run without a level.
    isolation: InForce | None = None

    @property
    def init_pid(self) -> int | None:
        """Pid of the first process of the run's pid namespace; None without one."""
        return None if self.isolation is None else self.isolation.init_pid


def started_from_json(record: Mapping[str, Any]) -> Started:
    """Return what the file `started` says. Raises KeyError or TypeError when it is damaged."""
    return Started(
        pid=checked_pid(record["pid"]),
        start_ticks=checked_count(record["start_ticks"]),
        boot_id=checked_text(record["boot_id"]),
        flow_pid=None if record.get("flow_pid") is None else checked_pid(record["flow_pid"]),
        oom_kills=None if record.get("oom_kills") is None else checked_count(record["oom_kills"]),
        started_at=past_time(record.get("started_at")),
        isolation=in_force_of(record["isolation"]) if record.get("isolation") else None,
    )


def past_time(value: Any) -> datetime | None:
    """Return the time that `value` names if it is in the past, but not further than any run can be; else None."""
    try:
        at = read_time(checked_text(value), naive="refuse")
    except (TypeError, ValueError):
        return None
    now = datetime.now(timezone.utc)
    return at if now - timedelta(seconds=MAX_SECONDS) < at <= now else None


def checked_text(value: Any) -> str:
    """Return `value` if it is a text. Raises TypeError otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r:.80}")
    return value


def checked_count(value: Any) -> int:
    """Return `value` if it is a number of 0 to 2**63 - 1. Raises TypeError otherwise."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise TypeError(f"not a count: {value!r:.80}")
    return value


def checked_pid(value: Any) -> int:
    """Return `value` if it can be the pid of a run's process: not all processes (0, negative), init, or this agent.

    Raises TypeError otherwise.
    """
    if type(value) is not int or not 1 < value < _PID_END or value == os.getpid():
        raise TypeError(f"not the pid of a run: {value!r:.80}")
    return value

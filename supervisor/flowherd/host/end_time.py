"""When a run ended: taken from the runner's record, or if that is missing from the run's last sign of life.

An agent may conclude an end long after it happened, because no agent ran meanwhile.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from flowherd.host.run import Run
from flowherd.host.store.journal_end import last_time_ns
from flowherd.host.store.records import Started, past_time

#: A last sign of life that is not older than this counts as now, seconds.
_NOW_S = 2.0


def recorded_end(record: Mapping[str, Any]) -> datetime | None:
    """Return the end that exit.json names; None if it is not credible: in the future, or before the start."""
    started_at, ended_at = past_time(record.get("started_at")), past_time(record.get("ended_at"))
    if ended_at is None or (started_at is not None and ended_at < started_at):
        return None
    return ended_at


def last_sign_of_life(run: Run, started: Started | None) -> datetime | None:
    """Return the last time at which a run whose runner left no record is known to have been alive.

    None if it ended just now: its runner was watched until its end, or has written within the last seconds.
    """
    if run.runner is not None:
        return None
    journal_ns = last_time_ns(run.directory.journal)
    signs = [_from_timestamp(journal_ns / 1e9)] if journal_ns else []
    with contextlib.suppress(OSError):
        signs.append(_from_timestamp(run.directory.journal.lstat().st_mtime))
    if started is not None and started.started_at is not None:
        signs.append(started.started_at)
    now = datetime.now(timezone.utc)
    latest = max((sign for sign in signs if sign <= now), default=None)
    return None if latest is None or (now - latest).total_seconds() < _NOW_S else latest


def _from_timestamp(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)

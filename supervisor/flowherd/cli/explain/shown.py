"""The times of a run's story as a terminal shows them."""

from __future__ import annotations

from datetime import datetime

from flowherd.shown_times import local_time


def shown_time(at: datetime | None, now: datetime) -> str:
    """Format a time with milliseconds, because much happens within a second; empty for None."""
    return "" if at is None else f"{local_time(at, now)}.{at.microsecond // 1000:03d}"

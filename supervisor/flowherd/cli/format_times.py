"""Times and lengths of time as they are shown to people."""

from __future__ import annotations

from datetime import datetime, timezone


def local_time(at: datetime | None, now: datetime | None = None) -> str:
    """Format a time in this host's zone, with its date unless it is today; empty for None."""
    if at is None:
        return ""
    local = at.astimezone()
    today = (now or datetime.now(timezone.utc)).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Format a length of time: 3.2s, 4m05s, 2h10m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def took(start: datetime | None, end: datetime | None) -> str:
    """Format how long something took, or has taken until now; empty if it has not begun."""
    if start is None:
        return ""
    return span(max(0.0, ((end or datetime.now(timezone.utc)) - start).total_seconds()))

"""Times, lengths of time and sizes as they are shown to people."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from flowherd.shown_times import local_time as local_time

_WEEK = timedelta(days=7)


def short_time(at: datetime | None, now: datetime) -> str:
    """Format a time in this host's zone in a narrow column: 14:20, Fri 02:30, 16 Nov 02:30; empty for None."""
    if at is None:
        return ""
    local = at.astimezone()
    if local.date() == now.astimezone().date():
        return local.strftime("%H:%M")
    if abs(at - now) < _WEEK:
        return local.strftime("%a %H:%M")
    return f"{local.day} {local:%b %H:%M}" if local.year == now.astimezone().year else f"{local:%Y-%m-%d}"


def span(seconds: float) -> str:
    """Format a length of time: 3.2s, 4m05s, 2h10m."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"


def short_span(seconds: float) -> str:
    """Format a length of time in a narrow column: 8.2s, 48s, 4m05s, 2h10m, 3d04h."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f}s"
    if seconds < 60:
        return f"{int(seconds)}s"
    hours = int(seconds) // 3600
    return span(seconds) if hours < 48 else f"{hours // 24}d{hours % 24:02d}h"


def short_size(count: int) -> str:
    """Format a number of bytes in a narrow column: 410M, 1.4G, 12G."""
    megabytes = count / 2**20
    if megabytes < 1000:
        return f"{megabytes:.0f}M" if megabytes >= 10 or count == 0 else f"{megabytes:.1f}M"
    return f"{megabytes / 1024:.1f}".removesuffix(".0") + "G"


def until(at: datetime, now: datetime) -> str:
    """Format how long it is until a time: in 2m52s; now if it is past."""
    seconds = (at - now).total_seconds()
    return "now" if seconds < 1 else f"in {short_span(int(seconds))}" if seconds >= 10 else f"in {int(seconds)}s"


def took(start: datetime | None, end: datetime | None) -> str:
    """Format how long something took, or has taken until now; empty if it has not begun."""
    if start is None:
        return ""
    return span(max(0.0, ((end or datetime.now(timezone.utc)) - start).total_seconds()))

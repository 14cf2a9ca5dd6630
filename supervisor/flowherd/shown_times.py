"""Times and lengths of time in sentences for people; cli/format_times.py has those of narrow columns."""

from __future__ import annotations

from datetime import datetime, timezone


def local_time(at: datetime | None, now: datetime | None = None) -> str:
    """Format a time in this host's zone, with its date unless it is today; empty for None."""
    if at is None:
        return ""
    local = at.astimezone()
    today = (now or datetime.now(timezone.utc)).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def spoken_span(seconds: float) -> str:
    """Format a length of time in a sentence: 21 ms, 8.2 s, 48 s, 4 m 05 s, 2 h 14 m, 3 d 4 h."""
    seconds = max(0.0, seconds)
    if seconds < 0.9995:
        return f"{round(1000 * seconds)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return _two(hours // 24, "d", f"{hours % 24} h" if hours % 24 else "")
    if hours:
        return _two(hours, "h", f"{minutes:02d} m" if minutes else "")
    return _two(minutes, "m", f"{rest:02d} s" if rest else "") if minutes else f"{rest} s"


def spoken_size(count: int) -> str:
    """Format a number of bytes in a sentence: 812 B, 3.4 KiB, 512 MiB, 11.2 GiB."""
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1000:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def _two(count: int, unit: str, rest: str) -> str:
    return f"{count} {unit} {rest}".rstrip()

"""Durations, sizes, numbers and times as the pages write them: `2 h 14 m`, `11.2 GiB`, `1,204`, `Fri 02:30`."""

from __future__ import annotations

from datetime import datetime, timedelta

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_WEEK = timedelta(days=7)


def duration(seconds: float) -> str:
    """Return a length of time: 8.2 s, 48 s, 12 m 31 s, 2 h 14 m, 3 d 4 h."""
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02d} s"
    minutes = whole // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} m"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def about(seconds: float) -> str:
    """Return a usual length of time, without the part that does not matter: ~2 m, ~5 m 40 s, ~2 h 40 m."""
    text = duration(seconds)
    return "~" + text.removesuffix(" 00 s").removesuffix(" 00 m").replace(".0 s", " s")


def size(number: float) -> str:
    """Return a number of bytes: 512 B, 307 MiB, 11.2 GiB."""
    unit = 0
    while abs(number) >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    text = f"{number:.0f}" if unit == 0 or abs(number) >= 99.95 else f"{number:.1f}"
    return f"{text.removesuffix('.0')} {_UNITS[unit]}"


def count(number: int) -> str:
    """Return a number, from 1,000 with a comma."""
    return f"{number:,}"


def counted(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun: 1 run, 1,204 runs."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def percent(share: float) -> str:
    """Return a share of one as per cent: 0.386 is 39 %."""
    return f"{share * 100:.0f} %"


def clock(at: datetime, now: datetime, *, seconds: bool = False) -> str:
    """Return a time in the zone of `at`: of today without a date, else Fri 02:30 in a week, else 16 Nov 02:30."""
    hours = at.strftime("%H:%M:%S" if seconds else "%H:%M")
    today = now.astimezone(at.tzinfo)
    if at.date() == today.date():
        return hours
    if abs(at - now) < _WEEK:
        return f"{at:%a} {hours}"
    return f"{at.day} {at:%b} {hours}" if at.year == today.year else f"{at.day} {at:%b %Y} {hours}"


def until(seconds: float) -> str:
    """Return how far away a time is: in 2 m 52 s, in 3 h 58 m, 26 m ago, now."""
    if abs(seconds) < 1:
        return "now"
    text = about(round(abs(seconds) if abs(seconds) < 600 else abs(seconds) // 60 * 60))[1:]
    return f"in {text}" if seconds > 0 else f"{text} ago"

"""Times and durations as the server stores them: integer microseconds, which compare and sort as numbers.

Times count from the epoch.
"""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone

from flowherd.times import read_time

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
SECOND_US = 1_000_000
_MICROSECOND = timedelta(microseconds=1)
_DURATION = re.compile(r"(-)?(\d{1,9}):(\d{2}):(\d{2})(?:\.(\d+))?", re.ASCII)


def now_us() -> int:
    """Return the present time of the wall clock."""
    return time.time_ns() // 1000


def to_us(at: datetime) -> int:
    """Convert an aware datetime."""
    return (at - EPOCH) // _MICROSECOND


def to_datetime(at_us: int) -> datetime:
    """Convert to an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=at_us)


def parse_time(text: str) -> int:
    """Read an ISO 8601 time; without an offset it is UTC. Raises ValueError or TypeError if it is not one."""
    return to_us(read_time(text, naive="utc"))


def format_time(at_us: int) -> str:
    """Write a time as ISO 8601 with offset and microseconds."""
    return to_datetime(at_us).isoformat(timespec="microseconds")


def format_duration(duration_us: int) -> str:
    """Write a duration as HH:MM:SS with a fraction if needed, as Postgres does for intervals of less than a day."""
    seconds, rest = divmod(abs(duration_us), SECOND_US)
    sign = "-" if duration_us < 0 else ""
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


def parse_duration(text: str) -> int:
    """Read a duration of the form [-]HH:MM:SS[.ffffff]. Raises ValueError or TypeError if it is not one."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a duration as HH:MM:SS: {text!r}")
    sign, hours, minutes, seconds, fraction = match.groups()
    whole_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    duration_us = whole_s * SECOND_US + int((fraction or "0")[:6].ljust(6, "0"))
    return -duration_us if sign else duration_us

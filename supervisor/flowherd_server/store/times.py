"""Times as the server stores them: whole microseconds since the epoch, so that they compare and sort as numbers."""

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
    """The wall clock."""
    return time.time_ns() // 1000


def to_us(moment: datetime) -> int:
    """`moment` in microseconds; without a zone it is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - EPOCH) // _MICROSECOND


def to_datetime(at_us: int) -> datetime:
    """`at_us` as an aware datetime in UTC."""
    return EPOCH + timedelta(microseconds=at_us)


def parse_time(text: str) -> int:
    """Microseconds of an ISO 8601 time; without an offset it is UTC.

    Raises ValueError when it is none.
    """
    return to_us(read_time(text, naive="utc"))


def format_time(at_us: int) -> str:
    """ISO 8601 with offset, to the microsecond."""
    return to_datetime(at_us).isoformat(timespec="microseconds")


def format_duration(duration_us: int) -> str:
    """HH:MM:SS, and a fraction where there is one, as Postgres shows intervals of less than a day."""
    seconds, rest = divmod(abs(duration_us), SECOND_US)
    sign = "-" if duration_us < 0 else ""
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


def parse_duration(text: str) -> int:
    """Microseconds of HH:MM:SS.ffffff, with a sign or without. Raises ValueError when it is none."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"not a span of time as HH:MM:SS: {text!r}")
    sign, hours, minutes, seconds, fraction = match.groups()
    whole_s = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    duration_us = whole_s * SECOND_US + int((fraction or "0")[:6].ljust(6, "0"))
    return -duration_us if sign else duration_us

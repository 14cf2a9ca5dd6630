"""Times as schedules write them, kept in the time zone that they were written in. Pure.

A time is {"dt": ISO 8601 without offset, "tz": zone name or offset}, or an ISO 8601 string; without a zone it is UTC.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from flowherd.times import read_time_as_written
from flowherd_server.errors import Refused

_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")


def read_schedule_time(what: str, value: Any) -> datetime:
    """Read `value` as an aware datetime. Raises Refused, naming it as `what`, if it is not a time."""
    try:
        if isinstance(value, dict):
            # `dt` is local time in the zone `tz`, even if it has an offset.
            return at_local_time(_naive(value["dt"]), _zone(value.get("tz")))
        return _naive_or_aware(value)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, OverflowError) as error:
        raise Refused(f"{what} is {value!r}, which is not a time: {error}") from error


def at_local_time(naive: datetime, zone: tzinfo) -> datetime:
    """Return the local time `naive` in `zone` as an aware datetime.

    As in Prefect, a time that comes twice when clocks are put back is the second one, and a time that is skipped when
    they are put forward is moved by the length of the gap.
    """
    first, second = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
    twice = (first.utcoffset() or timedelta(0)) > (second.utcoffset() or timedelta(0))
    # The way through UTC turns a skipped time into one that exists.
    return (second if twice else first).astimezone(timezone.utc).astimezone(zone)


def _naive(text: str) -> datetime:
    return _naive_or_aware(text).replace(tzinfo=None)


def _naive_or_aware(text: Any) -> datetime:
    at = read_time_as_written(text)
    return at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)


def _zone(name: Any) -> tzinfo:
    if name in (None, "UTC"):
        return timezone.utc
    offset = _OFFSET.fullmatch(name)
    if offset is not None:  # how Prefect writes a zone that is only an offset
        sign, hours, minutes = offset.groups()
        span = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-span if sign == "-" else span)
    # An unknown name raises ZoneInfoNotFoundError, a KeyError; the name of a directory raises OSError.
    return ZoneInfo(name)

"""Times as schedules write them, with the zone whose wall they were read from. Pure.

A time is {"dt": naive ISO 8601, "tz": name or offset}, or ISO 8601 text; what has no zone is UTC.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from flowherd.times import read_time_as_written
from flowherd_server.errors import Refused

_OFFSET = re.compile(r"([+-])(\d{2}):?(\d{2})")


def read_moment(what: str, value: Any) -> datetime:
    """The aware datetime that `value` says. Raises Refused, which names it as `what`, when it says none."""
    try:
        if isinstance(value, dict):
            # The text is a wall's time, whatever it says of an offset.
            return on_the_wall(_naive(value["dt"]), _zone(value.get("tz")))
        return _naive_or_aware(value)
    except (KeyError, TypeError, ValueError, AttributeError, OSError, OverflowError) as error:
        raise Refused(f"{what} is {value!r}, which is no time: {error}") from error


def on_the_wall(naive: datetime, zone: tzinfo) -> datetime:
    """The moment when clocks in `zone` show `naive`.

    As Prefect has it: of an hour that comes twice the second one, and for a time that is skipped as much later.
    """
    first, second = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
    twice = (first.utcoffset() or timedelta(0)) > (second.utcoffset() or timedelta(0))
    # By way of UTC a time that no clock shows becomes one that clocks show.
    return (second if twice else first).astimezone(timezone.utc).astimezone(zone)


def _naive(text: str) -> datetime:
    return _naive_or_aware(text).replace(tzinfo=None)


def _naive_or_aware(text: Any) -> datetime:
    moment = read_time_as_written(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def _zone(name: Any) -> tzinfo:
    if name in (None, "UTC"):
        return timezone.utc
    offset = _OFFSET.fullmatch(name)
    if offset is not None:  # how Prefect writes a zone that is only an offset
        sign, hours, minutes = offset.groups()
        span = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-span if sign == "-" else span)
    # ZoneInfoNotFoundError is a KeyError; OSError is what a directory's name gives.
    return ZoneInfo(name)

"""flowherd's own clock in the JSON of a schedule, beside Prefect's clocks:

    {"type": "FlowherdCron", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "start": ISO 8601, "end": ISO 8601}

with parameter_defaults and labels as in Prefect's. Without a time zone it is UTC; start and end may be null, count
themselves, and have an offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from flowherd.schedules.cron import read_cron
from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.cron_times import cron_times
from flowherd.times import read_time

FLOWHERD_CRON = "FlowherdCron"
#: No zone has a longer name, characters.
_LONGEST_ZONE = 64


def own_clock(cron: str, zone: str, end: datetime | None = None) -> dict[str, Any]:
    """Return the clock. Checks nothing."""
    until = None if end is None else end.astimezone(timezone.utc).isoformat()
    return {"type": FLOWHERD_CRON, "cron": cron, "timezone": zone, "start": None, "end": until}


def own_clock_times(clock: Mapping[str, Any], after: datetime) -> Iterator[datetime]:
    """Return the times of a FlowherdCron clock that are later than `after`, in order, in UTC.

    Raises ScheduleError if it cannot be followed.
    """
    text, zone = clock.get("cron"), zone_named(clock.get("timezone"))
    if not isinstance(text, str):
        raise ScheduleError("it is not a text")
    cron = read_cron(text)
    start, end = _time(clock, "start"), _time(clock, "end")
    begin = after if start is None else max(after, start - timedelta(microseconds=1))
    times = cron_times(cron, zone, begin)
    return times if end is None else takewhile(lambda at: at <= end, times)


def zone_named(name: Any) -> tzinfo:
    """Return the time zone with this IANA name; UTC for None. Raises ScheduleError if there is none."""
    if name is None or name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, TypeError, OSError) as error:
        raise ScheduleError(f"there is no time zone {name!r}; {_instead_of(name)}") from error


def _instead_of(name: Any) -> str:
    """Return what to write in place of the name of a zone that does not exist."""
    from difflib import get_close_matches

    is_name = isinstance(name, str) and len(name) <= _LONGEST_ZONE
    known = {zone.lower(): zone for zone in available_timezones()} if is_name else {}
    meant = get_close_matches(str(name).strip().lower().replace(" ", "_"), known, 1)
    return f"did you mean {known[meant[0]]}?" if meant else "write an IANA name such as Europe/Berlin or UTC"


def _time(clock: Mapping[str, Any], key: str) -> datetime | None:
    value = clock.get(key)
    if value is None:
        return None
    try:
        return read_time(value, naive="refuse")
    except (TypeError, ValueError) as error:
        raise ScheduleError(f"a clock's {key} is {value!r}, which is not a time with an offset") from error

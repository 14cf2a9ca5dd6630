"""When a schedule of the dialect's form fires: pure, times in and times out. Knows no database and no clock.

    {"clocks": [{"type": "IntervalClock", "interval": microseconds, ...}, {"type": "CronClock", "cron": ..., ...},
                {"type": "DatesClock", "dates": [...], ...}]}

with start_date and end_date ({"dt": naive ISO 8601, "tz": name}, ISO 8601 text, or null), parameter_defaults and
labels on each clock. A clock's zone is its start date's.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from itertools import islice, takewhile
from typing import Any
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from flowherd.server.refusals import Refused
from flowherd.server.times import EPOCH, SECOND_US, parse_time, to_datetime, to_us

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Firing:
    """One run that a schedule asks for."""

    at_us: int
    parameters: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None


def next_firings(schedule: Mapping[str, Any], after_us: int, count: int) -> list[Firing]:
    """The next `count` firings later than `after_us`, of all clocks together, in order.

    Raises Refused when the schedule is not one that this server can follow.
    """
    for key in ("filters", "or_filters", "not_filters", "adjustments"):
        if schedule.get(key):
            raise Refused(f"schedule.{key} is not supported by this server")
    clocks = schedule.get("clocks")
    if not isinstance(clocks, list) or not all(isinstance(clock, dict) for clock in clocks):
        raise Refused("schedule.clocks must be a list of clocks")
    firings = [_firings(clock, after_us) for clock in clocks]
    return list(islice(heapq.merge(*firings, key=lambda firing: firing.at_us), count))


def _firings(clock: Mapping[str, Any], after_us: int) -> Iterator[Firing]:
    parameters, labels = clock.get("parameter_defaults"), clock.get("labels")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refused("a clock's parameter_defaults must be a JSON object")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise Refused("a clock's labels must be a list of texts")
    # Empty means none given, as in Prefect's own documents.
    return (Firing(at_us, parameters or None, labels) for at_us in _times(clock, after_us))


def _times(clock: Mapping[str, Any], after_us: int) -> Iterator[int]:
    start, end = _moment(clock, "start_date"), _moment(clock, "end_date")
    kind = str(clock.get("type")).rpartition(".")[2]
    if kind == "IntervalClock":
        times = _interval_times(clock, start, after_us)
    elif kind == "CronClock":
        times = _cron_times(clock, start, after_us)
    elif kind == "DatesClock":
        times = _dates(clock, after_us)
    else:
        raise Refused(f"a clock of type {kind} is not supported by this server")
    return times if end is None else takewhile(lambda at_us: at_us <= to_us(end), times)


def _interval_times(clock: Mapping[str, Any], start: datetime | None, after_us: int) -> Iterator[int]:
    interval_us = clock.get("interval")
    if isinstance(interval_us, bool) or not isinstance(interval_us, int) or interval_us < SECOND_US:
        raise Refused("an IntervalClock's interval must be a number of microseconds, at least 1000000")
    return _interval_after(timedelta(microseconds=interval_us), start or EPOCH, after_us)


def _interval_after(interval: timedelta, start: datetime, after_us: int) -> Iterator[int]:
    # Whole days keep the time on the wall through a change to summer time; all else is elapsed time. Arithmetic on
    # an aware datetime is the wall's.
    anchor = start if interval % _DAY == timedelta(0) else start.astimezone(timezone.utc)
    step = max(0, (to_datetime(after_us) - anchor) // interval - 1)
    while True:
        try:
            at_us = to_us(anchor + interval * step)
        except OverflowError:  # the year 10000
            return
        step += 1
        if at_us > after_us:
            yield at_us


def _cron_times(clock: Mapping[str, Any], start: datetime | None, after_us: int) -> Iterator[int]:
    expression, day_or = clock.get("cron"), clock.get("day_or")
    zone = start.tzinfo if start is not None and start.tzinfo is not None else timezone.utc
    first_us = after_us if start is None else max(after_us, to_us(start) - 1)
    base = to_datetime(first_us).astimezone(zone)
    try:
        times = croniter(expression, base, ret_type=datetime, day_or=day_or is not False)
    except (CroniterError, AttributeError, TypeError) as error:
        raise Refused(f"a CronClock's cron is {expression!r}: {error}") from error
    return _cron_after(times, first_us)


def _cron_after(times: croniter, after_us: int) -> Iterator[int]:
    while True:
        try:
            at_us = to_us(times.get_next(datetime))
        except CroniterError:  # it has no further date, such as 30 February
            return
        if at_us > after_us:
            yield at_us


def _dates(clock: Mapping[str, Any], after_us: int) -> Iterator[int]:
    dates = clock.get("dates")
    if not isinstance(dates, list):
        raise Refused("a DatesClock's dates must be a list")
    times = sorted(to_us(_read_moment("dates", date)) for date in dates)
    return (at_us for at_us in times if at_us > after_us)


def _moment(clock: Mapping[str, Any], key: str) -> datetime | None:
    return None if clock.get(key) is None else _read_moment(key, clock[key])


def _read_moment(key: str, value: Any) -> datetime:
    try:
        if isinstance(value, dict):
            return datetime.fromisoformat(value["dt"]).replace(tzinfo=_zone(value.get("tz")))
        return to_datetime(parse_time(value))
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise Refused(f"a clock's {key} is {value!r}: {error}") from error


def _zone(name: Any) -> tzinfo:
    # ZoneInfoNotFoundError is a KeyError; OSError is what a directory's name gives.
    return timezone.utc if name in (None, "UTC") else ZoneInfo(name)

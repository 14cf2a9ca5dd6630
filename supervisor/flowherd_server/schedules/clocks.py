"""The times at which one clock of a schedule fires, in the clock's time zone. Pure.

A clock is written as

    {"type": "IntervalClock", "interval": microseconds}     {"type": "CronClock", "cron": ..., "day_or": ...}
    {"type": "DatesClock", "dates": [...]}                  {"type": "RRuleClock", "rrule_obj": ...}

each except DatesClock also with start_date and end_date. A clock's time zone is that of its start date, else UTC.
These follow Prefect's rules. flowherd's own clock, FlowherdCron, is in flowherd/schedules/own_clock.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import takewhile
from typing import Any

from croniter import CroniterError, croniter  # type: ignore[import-untyped]

from flowherd.schedules.cron_fields import ScheduleError
from flowherd.schedules.own_clock import FLOWHERD_CRON, own_clock_times
from flowherd_server.errors import Refused
from flowherd_server.schedules.recurrences import recurrence_times
from flowherd_server.schedules.schedule_times import at_local_time, read_schedule_time
from flowherd_server.store.microseconds import SECOND_US

_DAY = timedelta(days=1)
#: Start of intervals without a start date, as in Prefect.
_INTERVALS_BEGIN = datetime(2019, 1, 1, tzinfo=timezone.utc)

Clock = Mapping[str, Any]


def clock_times(clock: Clock, after: datetime) -> Iterator[datetime]:
    """Return all times of `clock` later than `after`, in order, without repetitions.

    Raises Refused if this server cannot follow the clock.
    """
    kind = str(clock.get("type")).rpartition(".")[2]
    if kind == FLOWHERD_CRON:
        return _own_clock(clock, after)
    read = _KINDS.get(kind)
    if read is None:
        known = ", ".join([*_KINDS, FLOWHERD_CRON])
        raise Refused(f"a clock of type {kind} is not supported by this server; it supports {known}")
    start, end = _optional_time(clock, "start_date"), _optional_time(clock, "end_date")
    times = _without_repetitions(read(clock, start, after), after)
    return times if end is None else takewhile(lambda at: at <= end, times)


def _own_clock(clock: Clock, after: datetime) -> Iterator[datetime]:
    try:
        return own_clock_times(clock, after)
    except ScheduleError as error:
        raise Refused(f"the cron expression {clock.get('cron')!r} cannot be followed: {error}") from error


def _without_repetitions(times: Iterator[datetime], after: datetime) -> Iterator[datetime]:
    """Drop repeated times: when clocks are put forward, several local times are the same time."""
    latest = after
    for at in times:
        if at > latest:
            latest = at
            yield at


def _intervals(clock: Clock, start: datetime | None, after: datetime) -> Iterator[datetime]:
    interval_us = clock.get("interval")
    if isinstance(interval_us, bool) or not isinstance(interval_us, int) or interval_us < SECOND_US:
        raise Refused("an IntervalClock's interval must be a number of microseconds, at least 1000000")
    return _intervals_after(timedelta(microseconds=interval_us), start or _INTERVALS_BEGIN, after)


def _intervals_after(interval: timedelta, start: datetime, after: datetime) -> Iterator[datetime]:
    # One day of margin, because changes to and from summer time make local time differ from elapsed time.
    step = max(0, (after - start - _DAY) // interval)
    while True:
        try:
            yield _after_elapsed(start, interval * step)
        except OverflowError:  # after year 9999
            return
        step += 1


def _after_elapsed(start: datetime, elapsed: timedelta) -> datetime:
    # As in Prefect: elapsed time within the first day after the start, from then on local time, so that what fires
    # daily or every six hours keeps its local times through a change to summer time.
    if elapsed < _DAY:
        return (start.astimezone(timezone.utc) + elapsed).astimezone(start.tzinfo)
    assert start.tzinfo is not None
    return at_local_time(start.replace(tzinfo=None) + elapsed, start.tzinfo)


def _cron(clock: Clock, start: datetime | None, after: datetime) -> Iterator[datetime]:
    expression, day_or = clock.get("cron"), clock.get("day_or")
    # The start itself counts if it matches the expression, but croniter only returns times later than its base.
    base = after if start is None else max(after, start - timedelta(microseconds=1))
    try:
        zone = timezone.utc if start is None else start.tzinfo
        times = croniter(expression, base.astimezone(zone), ret_type=datetime, day_or=day_or is not False)
    except (CroniterError, AttributeError, TypeError) as error:
        raise Refused(f"a CronClock's cron is {expression!r}: {error}") from error
    return _cron_after(times)


def _cron_after(times: croniter) -> Iterator[datetime]:
    while True:
        try:
            yield times.get_next(datetime)
        except CroniterError:  # there is no further date, as with 30 February
            return


def _dates(clock: Clock, _start: datetime | None, _after: datetime) -> Iterator[datetime]:
    dates = clock.get("dates")
    if not isinstance(dates, list):
        raise Refused("a DatesClock's dates must be a list")
    return iter(sorted(read_schedule_time("a DatesClock's date", date) for date in dates))


def _recurrences(clock: Clock, start: datetime | None, after: datetime) -> Iterator[datetime]:
    first = after if start is None else max(after, start - timedelta(microseconds=1))
    return recurrence_times(clock.get("rrule_obj"), first)


def _optional_time(clock: Clock, key: str) -> datetime | None:
    return None if clock.get(key) is None else read_schedule_time(f"a clock's {key}", clock[key])


_KINDS: dict[str, Callable[[Clock, datetime | None, datetime], Iterator[datetime]]] = {
    "IntervalClock": _intervals,
    "CronClock": _cron,
    "DatesClock": _dates,
    "RRuleClock": _recurrences,
}

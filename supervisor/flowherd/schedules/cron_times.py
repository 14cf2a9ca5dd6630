"""When a cron expression fires in a time zone, also where clocks are put forward and back.

Two rules, by the hours of the expression (those of cron(8) of Vixie and Debian, by the hour alone):

- Fixed hours: a time that is skipped fires once, just after, when the clock goes on; one that comes twice fires the
  first time.
- Hours that are `*` or have a step: every minute that passes is compared with the expression. A time that is skipped
  does not fire and one that comes twice fires twice, so `*/15 * * * *` always fires after 15 minutes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from flowherd.schedules.cron import Cron

_UTC = timezone.utc
_ONE_DAY, _ONE_HOUR, _ONE_SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)


def cron_times(cron: Cron, zone: tzinfo, after: datetime) -> Iterator[datetime]:
    """Return the times later than `after`, in order and without repetitions, in UTC.

    In UTC because Python compares two times of one zone by their clock readings, and an hour that comes twice has each
    reading twice.
    """
    latest = after.astimezone(_UTC)
    # From the day before, because a skipped time of that day may fire today.
    first = max(after.astimezone(zone).date(), date.min + 2 * _ONE_DAY) - _ONE_DAY
    try:
        for at in _by_day(cron, zone, first, latest):
            if at > latest:
                latest = at
                yield at
    except OverflowError:  # after year 9999
        return


def _by_day(cron: Cron, zone: tzinfo, first: date, after: datetime) -> Iterator[datetime]:
    """Return the times from the local date `first` on; those until `after` may be left out."""
    held: list[datetime] = []
    for day in cron.dates(first):
        midnight = datetime.combine(day, time())
        offset = _only_offset(midnight, zone)
        if offset is not None and not held:
            begin = (midnight - offset).replace(tzinfo=_UTC)
            past_hours = (after - begin) // _ONE_HOUR
            for hour in (hour for hour in cron.hours if hour >= past_hours):
                yield from (begin + timedelta(hours=hour, minutes=minute) for minute in cron.minutes)
            continue
        readings = (midnight + timedelta(hours=hour, minutes=minute) for hour in cron.hours for minute in cron.minutes)
        if not cron.by_elapsed_time:
            yield from (_first(reading, zone) for reading in readings)
        else:
            # Where clocks are put back at or just after midnight, the last minutes of a day come after the first ones
            # of the next.
            next_day = _first(midnight + _ONE_DAY, zone)
            held = sorted({*held, *(at for reading in readings for at in _all(reading, zone))})
            yield from (at for at in held if at < next_day)
            held = [at for at in held if at >= next_day]
    yield from held


def _only_offset(midnight: datetime, zone: tzinfo) -> timedelta | None:
    """Return the offset from UTC that the zone has from this local midnight to the next; None if it changes."""
    at_begin = midnight.replace(tzinfo=zone, fold=0).utcoffset()
    at_end = (midnight + _ONE_DAY).replace(tzinfo=zone, fold=1).utcoffset()
    return at_begin if at_begin == at_end else None


def _first(reading: datetime, zone: tzinfo) -> datetime:
    """Return when the clock first shows `reading`, or when it goes on after having skipped it."""
    shown = _all(reading, zone)
    return shown[0] if shown else _end_of_gap(reading, zone)


def _all(reading: datetime, zone: tzinfo) -> list[datetime]:
    """Return when the clock shows `reading`: once, twice, or, if it is skipped, never."""
    times = sorted({reading.replace(tzinfo=zone, fold=fold).astimezone(_UTC) for fold in (0, 1)})
    return [at for at in times if at.astimezone(zone).replace(tzinfo=None, fold=0) == reading]


def _end_of_gap(reading: datetime, zone: tzinfo) -> datetime:
    """Return the moment at which the clock jumps over `reading`."""
    # In a gap fold 0 has the offset before it and fold 1 the one after it (PEP 495), so the moment is between both.
    before, after = sorted(reading.replace(tzinfo=zone, fold=fold).astimezone(_UTC) for fold in (0, 1))
    offset = before.astimezone(zone).utcoffset()
    low, high = 0, (after - before) // _ONE_SECOND
    while high - low > 1:
        middle = (low + high) // 2
        if (before + middle * _ONE_SECOND).astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return before + high * _ONE_SECOND

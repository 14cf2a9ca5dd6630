"""Cron expressions as in crontab(5), in five fields: minute, hour, day of the month, month, day of the week.

Further: names of months and weekdays, ranges over the end (fri-mon), `L` for the last day of the month, `fri#2` and
`fri#L` for the second and the last Friday of the month, and the aliases in ALIASES.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from flowherd.schedules.cron_fields import (
    DAY,
    HOUR,
    MINUTE,
    MONTH,
    WEEKDAY,
    ScheduleError,
    number_of,
    values_of,
)

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = "minute, hour, day of the month, month, day of the week"
#: `fri#2`, `5#2`; `fri#L`, and `L5` and `5L` as other programs write it, are the last one.
_NTH = re.compile(r"(?P<day>\w+)#(?P<place>[1-5]|[lL])|[lL](?P<after>[0-7])|(?P<before>[0-7])[lL]", re.ASCII)
_LAST = -1
#: Longest time between two dates, years: 29 February on one weekday, over a year such as 2100 that has none.
_LONGEST_WAIT = 41
#: Maximum length of an expression, characters; more than one that lists all values of every field.
_LONGEST_TEXT = 500
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Cron:
    """A cron expression that has been read. `text` has its five fields, also if an alias was written."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    last_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    #: Weekday and its place in the month, -1 for the last.
    nth: frozenset[tuple[int, int]]
    #: Whether one of the two fields of days is enough, as crontab(5) has it if neither begins with `*`.
    either_day: bool
    #: Whether the hours are `*` or have a step, so that it goes by elapsed time when clocks change.
    by_elapsed_time: bool

    def matches(self, day: date) -> bool:
        """Return whether it fires on this date."""
        if day.month not in self.months:
            return False
        last = monthrange(day.year, day.month)[1]
        of_month = day.day in self.days or (self.last_day and day.day == last)
        weekday = (day.weekday() + 1) % 7
        places = {(weekday, (day.day + 6) // 7), (weekday, _LAST if day.day + 7 > last else 0)}
        of_week = weekday in self.weekdays or bool(places & self.nth)
        return of_month or of_week if self.either_day else of_month and of_week

    def dates(self, first: date) -> Iterator[date]:
        """Return the dates from `first` on, without end unless there are no more."""
        day, until = first, first.year + _LONGEST_WAIT
        while day.year <= until:
            if self.matches(day):
                yield day
                until = day.year + _LONGEST_WAIT
            if day == date.max:
                return
            if day.month in self.months or day.year == date.max.year:
                day += _DAY
            else:
                day = date(day.year + day.month // 12, day.month % 12 + 1, 1)


@lru_cache(maxsize=4096)
def read_cron(text: str) -> Cron:
    """Read a cron expression.

    Raises ScheduleError if it is none, or one that never fires. The message says what to write instead.
    """
    fields = _fields(text)
    minute, hour, day, month, weekday = fields
    nth, plain_weekdays = _nth(weekday)
    plain_days = [item for item in day.split(",") if item not in ("l", "L")]
    hours = values_of(hour, HOUR)
    cron = Cron(
        text=" ".join(fields),
        minutes=tuple(sorted(values_of(minute, MINUTE))),
        hours=tuple(sorted(hours)),
        days=values_of(",".join(plain_days), DAY) if plain_days else frozenset(),
        last_day=len(plain_days) < len(day.split(",")),
        months=values_of(month, MONTH),
        weekdays=values_of(",".join(plain_weekdays), WEEKDAY) if plain_weekdays else frozenset(),
        nth=nth,
        either_day=not day.startswith("*") and not weekday.startswith("*"),
        by_elapsed_time="/" in hour or hours == HOUR.whole,
    )
    if next(cron.dates(date(2000, 1, 1)), None) is None:
        raise ScheduleError(f"it never fires: there is no day {day} in month {month.replace(',', ' or ')}")
    return cron


def _fields(text: str) -> list[str]:
    words = text.split()
    if not words:
        raise ScheduleError(f"a cron expression has five fields: {FIELDS}; write it as '0 6 * * 1-5'")
    if len(text) > _LONGEST_TEXT:
        raise ScheduleError(f"it has {len(text)} characters; a cron expression may have {_LONGEST_TEXT}")
    if words[0].startswith("@"):
        return _alias(text.strip()).split()
    if len(words) == 6:
        raise ScheduleError(
            f"it has six fields, and a cron expression has five here: {FIELDS}. Seconds and years have none: leave "
            "the sixth out, or use an interval for what fires more often than once a minute"
        )
    if len(words) != 5:
        raise ScheduleError(
            f"it has {len(words)} field{'' if len(words) == 1 else 's'}, and a cron expression has five: {FIELDS}; "
            "write it as '0 6 * * 1-5'"
        )
    return words


def _alias(text: str) -> str:
    found = ALIASES.get(text.lower())
    if found is not None:
        return found
    known = ", ".join(ALIASES)
    if text.lower() == "@reboot":
        raise ScheduleError(f"@reboot is not a time, and a schedule follows the clock; the aliases are {known}")
    if text.lower().startswith("@every"):
        raise ScheduleError(
            f"@every is no cron expression; the aliases are {known}; for times between runs use an interval"
        )
    raise ScheduleError(f"there is no {text.split()[0]}; the aliases are {known}")


def _nth(weekday: str) -> tuple[frozenset[tuple[int, int]], list[str]]:
    """Return the items such as fri#2, and the other items of the field."""
    found, plain = set(), []
    for item in weekday.split(","):
        match = _NTH.fullmatch(item)
        if match is None:
            plain.append(item)
            continue
        place = match["place"]
        number = _LAST if place is None or place in "lL" else int(place)
        found.add((number_of(match["day"] or match["after"] or match["before"], WEEKDAY), number))
    return frozenset(found), plain

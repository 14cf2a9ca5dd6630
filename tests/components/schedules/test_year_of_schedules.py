"""A year of cron schedules in zones whose clocks change, against a reckoning that looks at every step of the clock.

The reckoning knows nothing of cron or of days: it goes through the year in steps of real time, reads the clock of the
zone at each, and applies the rules of docs/reference/schedules.md word by word to a condition written in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from itertools import takewhile
from zoneinfo import ZoneInfo

import pytest

from flowherd.schedules.cron import read_cron
from flowherd.schedules.cron_times import cron_times

Condition = Callable[[datetime], bool]


def nth_friday(at: datetime) -> bool:
    return at.weekday() == 4 and 8 <= at.day <= 14


#: Fires once if its hour is skipped, and once if it comes twice.
FIXED: dict[str, Condition] = {
    "30 2 * * *": lambda at: (at.hour, at.minute) == (2, 30),
    "0 0 * * *": lambda at: (at.hour, at.minute) == (0, 0),
    "*/15 1-3 * * *": lambda at: at.hour in (1, 2, 3) and at.minute % 15 == 0,
    "45 23 * * sun": lambda at: at.weekday() == 6 and (at.hour, at.minute) == (23, 45),
    "5,35 0,2 1,28-31 * mon": lambda at: (
        (at.day in (1, 28, 29, 30, 31) or at.weekday() == 0) and at.hour in (0, 2) and at.minute in (5, 35)
    ),
    "0 9 * * fri#2": lambda at: nth_friday(at) and (at.hour, at.minute) == (9, 0),
    "0 22 L * *": lambda at: (at + timedelta(days=1)).day == 1 and (at.hour, at.minute) == (22, 0),
}
#: Fires by elapsed time: whenever the clock shows it.
ELAPSED: dict[str, Condition] = {
    "*/10 * * * *": lambda at: at.minute % 10 == 0,
    "0 */2 * * *": lambda at: at.hour % 2 == 0 and at.minute == 0,
    "20 1-23/3 * 3,10,11 *": lambda at: at.month in (3, 10, 11) and at.hour % 3 == 1 and at.minute == 20,
    "30 * */2 * 6,7": lambda at: at.day % 2 == 1 and at.weekday() in (5, 6) and at.minute == 30,
}
FIVE, ONE = timedelta(minutes=5), timedelta(minutes=1)
#: Zone, first day, number of days, step of the reckoning.
YEARS = [
    ("Europe/Berlin", "2026-01-01", 365, FIVE),
    ("Australia/Lord_Howe", "2026-01-01", 365, FIVE),  # by half an hour
    ("America/Santiago", "2026-01-01", 365, FIVE),  # at midnight
    ("America/New_York", "2027-03-01", 30, FIVE),
    ("America/New_York", "2027-10-25", 30, FIVE),
    ("Africa/Casablanca", "2026-02-01", 70, FIVE),  # around Ramadan
    ("Asia/Beirut", "2026-03-20", 20, FIVE),  # midnight is skipped
    ("Asia/Beirut", "2026-10-15", 20, FIVE),  # back to the day before
    ("America/St_Johns", "2011-03-08", 10, ONE),  # at one minute past midnight
    ("America/St_Johns", "2010-11-02", 10, ONE),
    ("Pacific/Apia", "2011-12-20", 30, FIVE),  # without a 30 December
]


def reckoned(
    zone: ZoneInfo, begin: datetime, end: datetime, step: timedelta
) -> tuple[dict[str, list[datetime]], dict[str, list[datetime]]]:
    """Return the times of the fixed and of the elapsed expressions."""
    fixed: dict[str, list[datetime]] = {text: [] for text in FIXED}
    elapsed: dict[str, list[datetime]] = {text: [] for text in ELAPSED}
    # The latest reading of the clock so far: the clock shows a later one for the first time, an earlier one again.
    farthest = (begin - step).astimezone(zone).replace(tzinfo=None)
    at = begin
    while at < end:
        reading = at.astimezone(zone).replace(tzinfo=None, fold=0)
        for text, condition in ELAPSED.items():
            if condition(reading):
                elapsed[text].append(at)
        skipped_or_new = list(readings(farthest + step, reading, step))
        farthest = max(farthest, reading)
        for text, condition in FIXED.items():
            if any(map(condition, skipped_or_new)):
                fixed[text].append(at)
        at += step
    return fixed, elapsed


def readings(first: datetime, last: datetime, step: timedelta) -> Iterator[datetime]:
    while first <= last:
        yield first
        first += step


@pytest.mark.parametrize(("name", "first", "days", "step"), YEARS)
def test_schedules_fire_when_the_rules_say_so(name: str, first: str, days: int, step: timedelta) -> None:
    begin = datetime.fromisoformat(first).replace(tzinfo=timezone.utc)
    end, zone = begin + timedelta(days=days), ZoneInfo(name)
    fixed, elapsed = reckoned(zone, begin, end, step)
    for text, expected in {**fixed, **elapsed}.items():
        times = cron_times(read_cron(text), zone, begin - timedelta(microseconds=1))
        found = list(takewhile(lambda at: at < end, times))
        assert found == expected, text
    offsets = {at.astimezone(zone).utcoffset() for at in elapsed["*/10 * * * *"]}
    assert len(offsets) > 1, "the clocks of this zone did not change"


def test_schedules_go_on_from_any_moment() -> None:
    zone = ZoneInfo("Europe/Berlin")
    begin = datetime(2026, 10, 24, tzinfo=timezone.utc)
    for text in (*FIXED, *ELAPSED):
        cron = read_cron(text)
        times = list(takewhile(lambda at: at.month == 10, cron_times(cron, zone, begin)))
        for number in range(0, len(times) - 1, 5):
            before = times[number] - timedelta(microseconds=1)
            assert next(cron_times(cron, zone, before)) == times[number]
            assert next(cron_times(cron, zone, times[number])) == times[number + 1]

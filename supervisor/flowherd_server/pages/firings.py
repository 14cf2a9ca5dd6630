"""When schedules fire within the next 24 hours, for their lanes and for the greatest pile-up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flowherd_server.errors import Refused
from flowherd_server.schedules.schedule import next_firings
from flowherd_server.store.microseconds import SECOND_US

HOUR_US = 3600 * SECOND_US
DAY_US = 24 * HOUR_US
#: A schedule that fires more often is a band, of the hours in which it does.
MOST_MARKS = 100
_MINUTE_US = 60 * SECOND_US
#: The times of a schedule are computed anew after this time.
_SLOT_US = 5 * _MINUTE_US


@dataclass(frozen=True)
class Firings:
    """The times at which one schedule fires within a day from now on, microseconds since the epoch."""

    times: Sequence[int]
    #: Hours from now in which it fires, if it does so more often than MOST_MARKS times; `times` are the first ones.
    hours: Sequence[int] = ()

    @property
    def next_us(self) -> int | None:
        """When it fires next; None if it does not fire within the day."""
        return self.times[0] if self.times else None

    @property
    def count(self) -> str:
        """How often it fires, in words."""
        if self.hours:
            return f"more than {MOST_MARKS} times in 24 hours"
        return "once in 24 hours" if len(self.times) == 1 else f"{len(self.times)} times in 24 hours"


def firings_of_day(schedule: Mapping[str, Any], now_us: int) -> Firings:
    """Return when a schedule fires within a day; nothing if this server cannot follow it."""
    begin_us = now_us // _SLOT_US * _SLOT_US
    known = _firings(json.dumps(schedule, sort_keys=True), begin_us)
    times = [at for at in known.times if at > now_us]
    if known.hours and not times:  # all of the first ones are over
        return Firings([at.at_us for at in next_firings(schedule, now_us, 1)], known.hours)
    return Firings([at for at in times if at <= now_us + DAY_US], known.hours)


@lru_cache(maxsize=2000)
def _firings(schedule: str, begin_us: int) -> Firings:
    read = json.loads(schedule)
    end_us = begin_us + DAY_US + _SLOT_US
    try:
        times = [each.at_us for each in next_firings(read, begin_us, MOST_MARKS + 1)]
        within = [at for at in times if at <= end_us]
        if len(within) <= MOST_MARKS:
            return Firings(within)
        return Firings(within, [hour for hour in range(24) if _fires(read, begin_us + hour * HOUR_US)])
    except Refused:  # it creates no runs either
        return Firings(())


def _fires(schedule: Mapping[str, Any], from_us: int) -> bool:
    """Return whether a schedule fires within the hour from a time on."""
    found = next_firings(schedule, from_us, 1)
    return bool(found) and found[0].at_us <= from_us + HOUR_US


def greatest_pile(days: Iterable[Firings]) -> tuple[int, int]:
    """Return when the most schedules fire within one minute, and how many; the first such minute, 0 for none."""
    found = Counter(minute for day in days for minute in {at // _MINUTE_US for at in day.times})
    if not found:
        return 0, 0
    most = max(found.values())
    return min(minute for minute, number in found.items() if number == most) * _MINUTE_US, most

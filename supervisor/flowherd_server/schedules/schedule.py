"""The times at which a schedule fires. Pure: knows no database and no wall clock.

A schedule is written as

    {"clocks": [...], "filters": [...], "or_filters": [...], "not_filters": [...], "adjustments": [...]}

Clocks give the times (clocks.py), and parameter_defaults and labels for their runs. Filters leave some times out, and
adjustments move the others (schedule_functions.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from flowherd_server.errors import Refused
from flowherd_server.schedules.clocks import Clock, clock_times
from flowherd_server.schedules.schedule_functions import read_adjustments, read_filters
from flowherd_server.store.microseconds import to_datetime, to_us

#: Maximum number of clock times to look at, even if the filters let few of them through (Prefect's own limit).
MAX_TIMES = 10_000


@dataclass(frozen=True)
class Firing:
    """One run that a schedule wants."""

    at_us: int
    parameters: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None


@dataclass(frozen=True)
class _Source:
    """What a clock sets for its runs; an empty value counts as not set, as in Prefect."""

    parameters: Mapping[str, Any] | None
    labels: Sequence[str] | None


def next_firings(schedule: Mapping[str, Any], after_us: int, count: int) -> list[Firing]:
    """Return the next `count` firings of all clocks together, in order, without repetitions.

    Only clock times later than `after_us` count. There are fewer firings if the schedule ends, or if its filters let
    too few of MAX_TIMES times through. Raises Refused if this server cannot follow the schedule.
    """
    passes, adjusted = _filter(schedule), _adjustment(schedule)
    after = to_datetime(after_us)
    times = [_times(clock, after) for clock in clocks_of(schedule)]
    merged = heapq.merge(*times, key=lambda each: each[0])
    firings: list[Firing] = []
    at_same_time: dict[int, list[Firing]] = {}
    # If clocks with the same settings give the same time, filters see it in the first clock's zone, as in Prefect.
    for (at, source), _ in islice(groupby(merged), MAX_TIMES):
        if len(firings) >= count:
            break
        if passes(at):
            firing = Firing(_shifted(adjusted, at), source.parameters, source.labels)
            others = at_same_time.setdefault(firing.at_us, [])
            if firing not in others:
                others.append(firing)
                firings.append(firing)
    return sorted(firings, key=lambda firing: firing.at_us)


def has_ended(schedule: Mapping[str, Any], after_us: int) -> bool:
    """Return whether no clock has a time later than `after_us`. Raises Refused if one cannot be followed."""
    after = to_datetime(after_us)
    return all(next(clock_times(clock, after), None) is None for clock in clocks_of(schedule))


def clocks_of(schedule: Mapping[str, Any]) -> list[Clock]:
    """Return the schedule's clocks. Raises Refused if they are not a list of objects."""
    clocks = schedule.get("clocks")
    if not isinstance(clocks, list) or not all(isinstance(clock, dict) for clock in clocks):
        raise Refused("schedule.clocks must be a list of clocks")
    return clocks


def clock_parameters(clock: Clock) -> Mapping[str, Any]:
    """Return the parameters that a clock sets for its runs. Raises Refused if they are not an object."""
    parameters = clock.get("parameter_defaults")
    if parameters is not None and not isinstance(parameters, dict):
        raise Refused("a clock's parameter_defaults must be a JSON object")
    return parameters or {}


def _times(clock: Clock, after: datetime) -> Iterator[tuple[datetime, _Source]]:
    labels = clock.get("labels")
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        raise Refused("a clock's labels must be a list of strings")
    source = _Source(clock_parameters(clock) or None, labels)
    return ((at, source) for at in clock_times(clock, after))


def _filter(schedule: Mapping[str, Any]) -> Any:
    """Return the test of a time: it passes all filters, one of the or_filters and none of the not_filters."""
    each, one, none = (
        read_filters(f"schedule.{key}", schedule.get(key)) for key in ("filters", "or_filters", "not_filters")
    )

    def passes(at: datetime) -> bool:
        return (
            all(test(at) for test in each)
            and (not one or any(test(at) for test in one))
            and not any(test(at) for test in none)
        )

    return passes


def _adjustment(schedule: Mapping[str, Any]) -> Any:
    steps = read_adjustments("schedule.adjustments", schedule.get("adjustments"))

    def adjusted(at: datetime) -> datetime:
        for step in steps:
            at = step(at)
        return at

    return adjusted


def _shifted(adjusted: Any, at: datetime) -> int:
    try:
        return to_us(adjusted(at))
    except OverflowError as error:
        raise Refused(f"schedule.adjustments move {at} to before year 1 or after year 9999") from error

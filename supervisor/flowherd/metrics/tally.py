"""Counters and histograms of one process, in memory: they begin at 0 with its start. Usable from any thread."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from flowherd.metrics.families import BY_NAME, Kind
from flowherd.shown_text import storable

#: Number of flows that have series of their own; what is counted for others is put together.
MOST_FLOWS = 500
OTHER_FLOWS = "(other flows)"
#: Longest label, characters.
_LONGEST_LABEL = 200


class Sample(NamedTuple):
    """A value of a family that is not a histogram or summary."""

    family: str
    value: float
    labels: tuple[str, ...] = ()


@dataclass
class Distribution:
    """Values of a histogram or summary: how many are in each bucket, above all of them, and their sum."""

    buckets: list[int] = field(default_factory=list)
    count: int = 0
    total: float = 0.0


class Tally:
    """What has happened in this process, by family of families.py and labels."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, dict[tuple[str, ...], float]] = {}
        self._distributions: dict[str, dict[tuple[str, ...], Distribution]] = {}
        #: The labels of flows by their names.
        self._flows: dict[str, str] = {}

    def flow(self, name: str) -> str:
        """Return the label of a flow: its name, unless there are too many flows already."""
        found = self._flows.get(name)
        if found is not None:
            return found
        with self._lock:
            if len(self._flows) >= MOST_FLOWS:
                return OTHER_FLOWS
            return self._flows.setdefault(name, storable(name[:_LONGEST_LABEL]))

    def add(self, family: str, *labels: str, by: float = 1.0) -> None:
        """Add to a counter."""
        with self._lock:
            values = self._values.setdefault(family, {})
            values[labels] = values.get(labels, 0.0) + by

    def begin(self, family: str, value: float, *labels: str) -> None:
        """Have a series begin with this value, unless it has one."""
        with self._lock:
            self._values.setdefault(family, {}).setdefault(labels, value)

    def set(self, family: str, value: float, *labels: str) -> None:
        """Set a gauge that is known from what happened."""
        with self._lock:
            self._values.setdefault(family, {})[labels] = value

    def observe(self, family: str, value: float, *labels: str) -> None:
        """Add a value to a histogram or summary; one below 0, of two clocks that disagree, counts as 0."""
        buckets, value = BY_NAME[family].buckets, max(0.0, value)
        with self._lock:
            by_labels = self._distributions.setdefault(family, {})
            found = by_labels.get(labels)
            if found is None:
                found = by_labels[labels] = Distribution([0] * (len(buckets) + 1))
            found.buckets[bisect_left(buckets, value)] += 1
            found.count += 1
            found.total += value

    def samples(self) -> Iterator[Sample]:
        """Return the present values of counters and gauges."""
        with self._lock:
            found = [
                Sample(family, value, labels)
                for family, values in self._values.items()
                for labels, value in values.items()
            ]
        return iter(found)

    def distributions(self, family: str) -> dict[tuple[str, ...], Distribution]:
        """Return the present values of a histogram or summary; one without labels exists before its first value."""
        wanted = BY_NAME[family]
        with self._lock:
            found = {
                labels: Distribution(list(one.buckets), one.count, one.total)
                for labels, one in self._distributions.get(family, {}).items()
            }
        if not found and not wanted.labels and wanted.kind is Kind.HISTOGRAM:
            found[()] = Distribution([0] * (len(wanted.buckets) + 1))
        return found

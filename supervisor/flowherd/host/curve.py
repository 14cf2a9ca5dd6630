"""The curve of one run: what it used at evenly spread moments of its life, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from flowherd.story.account import MOST_SAMPLES
from flowherd.story.live import Sample


class _Point(NamedTuple):
    #: Seconds since the epoch.
    at: float
    #: Highest memory since the point before.
    memory_bytes: int
    #: Share of a processor, and the time over which it is known, seconds: 0 if it is not.
    cpu_share: float
    over_s: float


class Curve:
    """Keeps fewer than MOST_SAMPLES points; when it is full, two become one and the next come half as often.

    `step_s` is the least time between two points at the beginning, seconds. `add` and `restore` are for one thread.
    """

    def __init__(self, step_s: float) -> None:
        self._step_s = step_s
        self._points: list[_Point] = []
        #: Highest memory since the last point.
        self._peak_bytes = 0
        #: The newest look, if it is no point of its own.
        self._newest: _Point | None = None
        #: Time and CPU time at the last point; None before the first one.
        self._last: tuple[float, float] | None = None

    def add(self, at: float, memory_bytes: int, cpu_time_s: float) -> None:
        """Take what the run uses now."""
        self._peak_bytes = max(self._peak_bytes, memory_bytes)
        self._newest = self._point(at, cpu_time_s)
        if self._points and at - self._points[-1].at < self._step_s:
            return
        points = [*self._points, self._newest]
        self._newest, self._peak_bytes, self._last = None, 0, (at, cpu_time_s)
        if len(points) >= MOST_SAMPLES - 1:
            self._step_s *= 2
            points = [_merged(*pair) for pair in zip(points[0::2], points[1::2], strict=False)]
        self._points = points

    def samples(self) -> tuple[Sample, ...]:
        """Return the points, and the newest look at the run. For any thread."""
        points, newest = self._points, self._newest
        shown = points if newest is None or (points and newest.at <= points[-1].at) else [*points, newest]
        return tuple(Sample(one.at, one.memory_bytes, round(one.cpu_share, 3) if one.over_s else None) for one in shown)

    def _point(self, at: float, cpu_time_s: float) -> _Point:
        if self._last is None or at <= self._last[0]:
            return _Point(at, self._peak_bytes, 0.0, 0.0)
        over_s = at - self._last[0]
        return _Point(at, self._peak_bytes, max(0.0, cpu_time_s - self._last[1]) / over_s, over_s)

    def restore(self, samples: Sequence[Sample]) -> None:
        """Begin with what an earlier agent has kept. How busy the run was until the next point is not known."""
        befores = [samples[0].at - self._step_s, *(one.at for one in samples)] if samples else []
        points = [_restored(one, before) for before, one in zip(befores, samples, strict=False)]
        self._points = points[2 - MOST_SAMPLES :]
        spread_s = samples[-1].at - samples[0].at if samples else 0.0
        while self._step_s * MOST_SAMPLES < spread_s:
            self._step_s *= 2


def _restored(sample: Sample, before: float) -> _Point:
    over_s = 0.0 if sample.cpu_share is None else sample.at - before
    return _Point(sample.at, sample.memory_bytes or 0, sample.cpu_share or 0.0, over_s)


def _merged(first: _Point, second: _Point) -> _Point:
    over_s = first.over_s + second.over_s
    used_s = first.cpu_share * first.over_s + second.cpu_share * second.over_s
    memory_bytes = max(first.memory_bytes, second.memory_bytes)
    return _Point(second.at, memory_bytes, used_s / over_s if over_s else 0.0, over_s)

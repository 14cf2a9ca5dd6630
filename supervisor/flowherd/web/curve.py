"""Memory and CPU of a run over time: a drawing that needs no script, and the same figures as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape

from flowherd.web.formats import size

_WIDTH, _HEIGHT = 760, 190
#: Where the curves are, within it.
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 714.0, 10.0, 166.0
#: Number of spaces between lines of the grid, and of times.
_STEPS, _TIMES = 5, 4
_UNITS = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


@dataclass(frozen=True)
class CurvePoint:
    """What a run used at one moment; None for what is not known."""

    #: Seconds since the epoch.
    at_s: float
    memory_bytes: int | None
    #: Share of one processor, percent: 200 is all of two.
    cpu_percent: float | None

    @property
    def at(self) -> datetime:
        """The moment."""
        return datetime.fromtimestamp(self.at_s, timezone.utc)


@dataclass(frozen=True)
class Curve:
    """A run's memory and CPU, drawn and as figures."""

    #: HTML of the drawing.
    svg: str
    #: "GiB", "MiB" or "KiB": that of the numbers at its left.
    unit: str
    unit_bytes: int
    points: Sequence[CurvePoint]
    #: The limit, if it is near enough to be drawn.
    limit_drawn: int | None


def draw_curve(points: Sequence[CurvePoint], memory_limit_bytes: int | None = None) -> Curve | None:
    """Draw the points, the oldest first; None if there are fewer than two, or no figure in them."""
    memory = [point.memory_bytes for point in points if point.memory_bytes is not None]
    cpu = [point.cpu_percent for point in points if point.cpu_percent is not None]
    if len(points) < 2 or len(memory) < 2:
        return None
    # A limit far above what was used would press the curve to the ground.
    limit = memory_limit_bytes if memory_limit_bytes and memory_limit_bytes < 4 * max(memory) else None
    most = max(*memory, limit or 0, 1024)
    unit, size_of_unit = next(((name, each) for name, each in _UNITS if most >= each / 2), _UNITS[-1])
    top, cpu_top = _scale(most / size_of_unit), _scale(max(cpu, default=0.0) or 100.0)
    first_s, last_s = points[0].at_s, max(points[-1].at_s, points[0].at_s + 1)

    def x(at_s: float) -> float:
        return _LEFT + (at_s - first_s) / (last_s - first_s) * (_RIGHT - _LEFT)

    def path(value: Callable[[CurvePoint], float | None], full: float) -> str:
        known = [(x(point.at_s), number / full) for point in points if (number := value(point)) is not None]
        return "M" + "L".join(f"{at:.1f} {_y(min(1.0, share)):.1f}" for at, share in known)

    line = path(lambda point: point.memory_bytes, top * size_of_unit)
    ends = f"L{_RIGHT} {_BOTTOM}L{_LEFT} {_BOTTOM}Z"
    content = [
        *_grid(top, cpu_top if cpu else None),
        *_times(first_s, last_s),
        f'<path class="memf" d="{line}{ends}"/>',
    ]
    if len(cpu) > 1:
        content.append(f'<path class="cpu" d="{path(lambda point: point.cpu_percent, cpu_top)}"/>')
    content.append(f'<path class="mem" d="{line}"/>')
    if limit:
        at = _y(limit / size_of_unit / top)
        content.append(f'<line class="lim" x1="{_LEFT}" x2="{_RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        content.append(f'<text x="50" y="{at - 5:.1f}">limit {size(limit)}</text>')
    label = escape(_label(memory, cpu, memory_limit_bytes))
    svg = f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{"".join(content)}</svg>'
    return Curve(svg, unit, size_of_unit, points, limit)


def _y(share: float) -> float:
    return _BOTTOM - share * (_BOTTOM - _TOP)


def _scale(most: float) -> float:
    """Return the top of a scale whose steps are round numbers."""
    step = 10.0 ** math.floor(math.log10(most / _STEPS))
    return next(_STEPS * step * factor for factor in (1, 2, 2.5, 3, 4, 5, 10) if _STEPS * step * factor >= most)


def _number(value: float, top: float) -> str:
    return (
        f"{value:.0f}"
        if top >= 2 * _STEPS or float(top / _STEPS).is_integer()
        else f"{value:.1f}"
        if top >= 0.5
        else f"{value:.2f}"
    )


def _grid(top: float, cpu_top: float | None) -> list[str]:
    parts = []
    for step in range(_STEPS + 1):
        at = _y(step / _STEPS)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="38" y="{at + 4:.1f}" text-anchor="end">{_number(top * step / _STEPS, top)}</text>')
        if cpu_top is not None:
            parts.append(f'<text x="720" y="{at + 4:.1f}">{_number(cpu_top * step / _STEPS, cpu_top)}</text>')
    return parts


def _times(first_s: float, last_s: float) -> list[str]:
    """Write times in the server's zone, with seconds where they differ only by those."""
    form = "%H:%M" if last_s - first_s >= 60 * _TIMES else "%H:%M:%S"
    parts = []
    for step in range(_TIMES + 1):
        at = datetime.fromtimestamp(first_s + (last_s - first_s) * step / _TIMES, timezone.utc).astimezone()
        x = _LEFT + (_RIGHT - _LEFT) * step / _TIMES
        parts.append(f'<text x="{x:.1f}" y="184" text-anchor="middle">{at:{form}}</text>')
    return parts


def _label(memory: Sequence[int], cpu: Sequence[float], limit: int | None) -> str:
    words = [f"Memory began at {size(memory[0])}, was {size(max(memory))} at most and {size(memory[-1])} in the end"]
    if limit:
        words.append(f"its limit is {size(limit)}")
    if cpu:
        words.append(f"CPU was {max(cpu):.0f} percent at most and {sum(cpu) / len(cpu):.0f} percent on average")
    return "; ".join(words)

"""Pictures of flows and schedules as SVG: the strip of last runs, durations over time, the lane of a day.

As in drawings.py, numbers stand in attributes and each picture has a label or a text beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from flowherd.shown_text import one_line
from flowherd.web.formats import duration

_STRIP_HEIGHT = 50
_PLOT_WIDTH, _PLOT_HEIGHT = 760, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 746, 12, 186
#: Candidates for the distance between two lines of a plot, seconds.
_STEPS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400, 604_800)
_MOST_LINES = 5
_LANE_WIDTH = 480


@dataclass(frozen=True)
class StripRun:
    """A run in a strip."""

    address: str
    #: ok, bad, stop, run or wait.
    kind: str
    #: Its name, its state and how long it took.
    title: str
    #: How long it took or has been going, seconds.
    took_s: float


def strip(runs: Sequence[StripRun]) -> str:
    """Draw runs as bars whose height is their duration, each a link; the oldest first."""
    most = max((run.took_s for run in runs), default=0.0) or 1.0
    return '<div class="strip">' + "".join(_strip_run(run, run.took_s / most) for run in runs) + "</div>"


def _strip_run(run: StripRun, share: float) -> str:
    title = escape(one_line(run.title))
    tall = max(4, round(share * (_STRIP_HEIGHT - 8)))
    kind = run.kind if run.kind in ("ok", "bad", "run") else "stop"
    inset = 1 if kind == "stop" else 0
    box = (
        f'<rect class="{kind}" x="{inset}" y="{_STRIP_HEIGHT - tall + inset}" width="{16 - 2 * inset}" '
        f'height="{tall - 2 * inset}" rx="2"/>'
    )
    failed = ' class="f"' if kind == "bad" else ""
    return (
        f'<a{failed} href="{escape(run.address)}" title="{title}" aria-label="{title}">'
        f'<svg viewBox="0 0 16 {_STRIP_HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{box}</svg></a>'
    )


@dataclass(frozen=True)
class Duration:
    """A run in a plot of durations."""

    #: When it was started, seconds since the epoch.
    at: float
    took_s: float
    kind: str


def durations(
    runs: Sequence[Duration],
    first: float,
    last: float,
    label: str,
    ticks: Sequence[tuple[float, str]],
    median_s: float | None,
) -> str:
    """Draw durations between two times; a line at the median. `ticks` are the times that have a text below."""
    top = max((run.took_s for run in runs), default=1.0) or 1.0
    step = next((each for each in _STEPS if top / each <= _MOST_LINES), _STEPS[-1])
    lines = max(1, -int(-top // step))
    scale = (_BOTTOM - _TOP) / (lines * step)
    parts = []
    for n in range(lines + 1):
        y = _BOTTOM - n * step * scale
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(n * step)}</text>')
    if median_s is not None:
        y = _BOTTOM - median_s * scale
        parts.append(f'<line class="med" x1="{_LEFT}" x2="{_RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    span = (last - first) or 1.0
    parts += [
        _point(run, _LEFT + (run.at - first) / span * (_RIGHT - _LEFT), _BOTTOM - run.took_s * scale) for run in runs
    ]
    for at, text in ticks:
        share = (at - first) / span
        anchor = "start" if share < 0.05 else "end" if share > 0.95 else "middle"
        x = _LEFT + share * (_RIGHT - _LEFT)
        parts.append(f'<text x="{x:.1f}" y="204" text-anchor="{anchor}">{escape(text)}</text>')
    return (
        f'<svg class="plot" viewBox="0 0 {_PLOT_WIDTH} {_PLOT_HEIGHT}" role="img" '
        f'aria-label="{escape(one_line(label))}">{"".join(parts)}</svg>'
    )


def _tick(seconds: float) -> str:
    text = duration(seconds)
    return text.replace(" 00 s", "").replace(" 00 m", "").replace(".0 s", " s").replace(" 0 h", "")


def _point(run: Duration, x: float, y: float) -> str:
    if run.kind == "bad":
        return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="var(--bad)" stroke-width="2.2"/>'
    fill = "var(--ok)" if run.kind == "ok" else "var(--faint)"
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{fill}" opacity=".75"/>'


def lane(times: Sequence[float], hours: Sequence[int], *, is_off: bool) -> str:
    """Draw when a schedule fires, as shares of a day; of one that fires more often the `hours` as a band."""
    grid = "".join(f'<line class="g" x1="{x}" x2="{x}" y1="0" y2="18"/>' for x in range(60, _LANE_WIDTH, 60))
    off = " off" if is_off else ""
    if hours:
        width = _LANE_WIDTH // 24
        marks = [
            f'<rect class="t many{off}" x="{first * width}" y="4" width="{number * width}" height="10" rx="1"/>'
            for first, number in _in_rows(hours)
        ]
    else:
        places = sorted({round(max(0.0, min(1.0, share)) * (_LANE_WIDTH - 3), 1) for share in times})
        marks = [f'<rect class="t{off}" x="{x}" y="4" width="3" height="10" rx="1"/>' for x in places]
    return (
        f'<svg class="lane" viewBox="0 0 {_LANE_WIDTH} 18" preserveAspectRatio="none" aria-hidden="true">'
        f"{grid}{''.join(marks)}</svg>"
    )


def _in_rows(hours: Sequence[int]) -> list[tuple[int, int]]:
    """Return the hours that follow each other as the first one and their number."""
    rows: list[tuple[int, int]] = []
    for hour in sorted(hours):
        if rows and hour == sum(rows[-1]):
            rows[-1] = rows[-1][0], rows[-1][1] + 1
        else:
            rows.append((hour, 1))
    return rows

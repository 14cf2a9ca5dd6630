"""Which columns of the list fit, and the line of a run.

State, flow, id, elapsed time and memory are never lost. Room goes, in this order, to CPU, the limit with its bar, the
number of processes, the agent, the last line, the name and the usual time. A row without figures has its reason in the
place of what follows the times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from flowherd.cli.format_times import short_span, short_time, until
from flowherd.cli.tables.cells import cut_end, width_of
from flowherd.cli.top.picture import Figures, RunRow
from flowherd.cli.top.spans import Line, Span, at_left, at_right, bar, clean, coarse_span, fitted, line, restyled, size
from flowherd.cli.top.state_marks import mark_of
from flowherd.story.order import Group

#: Number of an id's first characters that are shown.
SHORT_ID = 8
#: Below this width the state is a sign alone, and the columns stand closer.
NARROW = 60
#: The share of its limit from which on memory is near it.
NEAR_LIMIT = 0.9
_STATE, _FLOW, _ELAPSED, _MEMORY, _BAR = 12, 15, 9, 6, 4
_LEAST_FLOW, _MOST_FLOW = 8, 28
_LEAST_LAST_LINE = 16
#: Columns in the order in which they get room, and their widths.
_BY_ROOM = (
    ("CPU%", 4),
    ("LIMIT", 10),
    ("PR", 2),
    ("AGENT", 10),
    ("LAST LINE", _LEAST_LAST_LINE),
    ("NAME", 12),
    ("USUAL", 7),
)
#: In this order they stand.
_ORDER = ("STATE", "FLOW", "NAME", "ID", "AGENT", "ELAPSED", "USUAL", "CPU%", "MEM", "LIMIT", "PR", "LAST LINE")
_AT_RIGHT = frozenset({"ELAPSED", "USUAL", "CPU%", "MEM", "PR"})
#: Columns of a running run's figures.
_FIGURES = ("CPU%", "MEM", "LIMIT", "PR", "LAST LINE")


@dataclass(frozen=True)
class Columns:
    """The columns that are shown, with their widths, from left to right."""

    widths: tuple[tuple[str, int], ...]
    gap: int
    width: int

    def titles(self) -> Line:
        """Return the line of titles."""
        cells = [
            at_right(title, wide) if title in _AT_RIGHT else at_left("" if wide == 1 else title, wide)
            for title, wide in self.widths
        ]
        return line(Span(" " + (" " * self.gap).join(cells).rstrip(), "bold"))

    def row(self, row: RunRow, now: datetime, *, current: bool = False, sign: str = " ") -> Line:
        """Return the line of a run; the current one is drawn in reverse over the whole width."""
        spans: list[Span] = [Span(sign, "bold")]
        used = 1
        for place, (title, wide) in enumerate(self.widths):
            if place:
                spans.append(Span(" " * self.gap))
                used += self.gap
            if row.figures is None and title in _FIGURES:
                if used < self.width:
                    spans.append(Span(cut_end(clean(reason(row)), self.width - used)))
                break
            spans.append(self._cell(title, wide, row, now))
            used += wide
        found = fitted(line(*spans), self.width)
        return restyled(found, "current", self.width) if current else found

    @staticmethod
    def _cell(title: str, wide: int, row: RunRow, now: datetime) -> Span:
        if title == "STATE":
            sign, word, style = mark_of(row)
            return Span(at_left(sign if wide == 1 else f"{sign} {word}", wide), style)
        if row.figures is not None and title in _FIGURES:
            return _figure(title, wide, row, row.figures)
        text, in_middle = _texts(title, row, now)
        return Span(at_right(text, wide) if title in _AT_RIGHT else at_left(clean(text), wide, middle=in_middle))


def _texts(title: str, row: RunRow, now: datetime) -> tuple[str, bool]:
    """Return the text of a cell, and whether it may be cut in its middle."""
    if title == "ELAPSED":
        return elapsed(row, now), False
    if title == "USUAL":
        return "" if row.usual_s is None else f"~{coarse_span(row.usual_s)}", False
    texts = {"FLOW": row.flow, "NAME": row.name, "ID": row.id[:SHORT_ID], "AGENT": row.agent}
    return texts[title], title != "ID"


def _figure(title: str, wide: int, row: RunRow, figures: Figures) -> Span:
    memory, limit = figures.memory_bytes, figures.limit_bytes
    if title == "CPU%":
        return Span(at_right("" if figures.cpu_percent is None else f"{figures.cpu_percent:.0f}", wide))
    share = memory / limit if memory is not None and limit else 0.0
    style = "warn" if share >= NEAR_LIMIT else ""
    if title == "MEM":
        return Span(at_right("" if memory is None else size(memory), wide), style)
    if title == "LIMIT":
        if limit is None:
            return Span(at_left("no limit", wide), "dim")
        return Span(f"{bar(share, _BAR)} {at_right(size(limit), wide - _BAR - 1)}", style)
    if title == "PR":
        return Span(at_right("" if figures.processes is None else str(figures.processes), wide))
    return Span(at_left(clean(reason(row)), wide))


def reason(row: RunRow) -> str:
    """Return what a run says of itself: why it is stuck or waits, what it wrote last, or its message."""
    return row.stuck or row.last_line or row.says


def elapsed(row: RunRow, now: datetime) -> str:
    """Return how long a run has run or ran, since when it is due, or when it begins."""
    if row.group is Group.RUNNING:
        return "" if row.started is None else short_span((now - row.started).total_seconds())
    if row.group is Group.DUE:
        at = short_time(row.due, now)
        if row.due is None or len(at) == len("14:20"):
            return f"due {at}" if at else ""
        return f"{short_span((now - row.due).total_seconds())} late"
    if row.group is Group.NEXT:
        return "" if row.due is None else until(row.due, now)
    if row.started is None or row.ended is None:
        return ""
    return short_span((row.ended - row.started).total_seconds())


def columns_for(rows: Sequence[RunRow], width: int, now: datetime | None = None) -> Columns:
    """Return the columns for a list of these rows on `width` columns of a terminal."""
    now = now or datetime.now(timezone.utc)
    narrow = width < NARROW
    gap = 1 if narrow else 2
    state = 1 if narrow else max([_STATE, *(width_of(mark_of(row).word) + 2 for row in rows)])
    fixed = {
        "STATE": state,
        "FLOW": _LEAST_FLOW,
        "ID": SHORT_ID,
        "ELAPSED": max([_ELAPSED, *(len(elapsed(row, now)) for row in rows)]),
        "MEM": _MEMORY,
    }
    left = width - 1 - sum(fixed.values()) - gap * (len(fixed) - 1)
    longest = max([len("FLOW"), *(width_of(clean(row.flow)) for row in rows)])
    # The flow comes first, up to its usual width.
    left -= _widen(fixed, "FLOW", min(longest, _FLOW), left)
    for title, wide in _BY_ROOM:
        if not _is_filled(title, rows):
            continue
        if not narrow and left >= wide + gap:
            fixed[title] = wide
            left -= wide + gap
    left -= _widen(fixed, "FLOW", min(longest, _MOST_FLOW), left // 2 if "LAST LINE" in fixed else left)
    if "LAST LINE" in fixed:
        fixed["LAST LINE"] += left
    return Columns(tuple((title, fixed[title]) for title in _ORDER if title in fixed), gap, width)


def _is_filled(title: str, rows: Sequence[RunRow]) -> bool:
    if title in ("CPU%", "LIMIT", "PR"):
        return any(row.figures is not None for row in rows)
    if title == "USUAL":
        return any(row.usual_s is not None for row in rows)
    return title == "LAST LINE" or any(row.agent if title == "AGENT" else row.name for row in rows)


def _widen(widths: dict[str, int], title: str, wanted: int, left: int) -> int:
    given = max(0, min(wanted - widths[title], left))
    widths[title] += given
    return given

"""The main screen: head, host, what needs attention, the list, the current run, agents and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flowherd.cli.format_times import local_time, until
from flowherd.cli.top.attention import attention_lines, matters
from flowherd.cli.top.columns import Columns, columns_for
from flowherd.cli.top.picture import AgentRow, Picture, RunRow
from flowherd.cli.top.spans import (
    Line,
    Span,
    bar,
    beside,
    clean,
    coarse_span,
    fitted,
    line,
    line_width,
    size,
    sparkline,
)
from flowherd.story.order import Group

#: Sizes from which on more is shown: lines for the attention lines, for the log below, and columns for it beside.
ATTENTION_FROM, BELOW_FROM, BESIDE_FROM = 30, 36, 160
#: Below these the list stands alone.
ALONE_BELOW_WIDTH, ALONE_BELOW_HEIGHT = 60, 12
#: Lines of the current run's log below the list, its title counted in.
BELOW_LINES = 9
_KEYS = (
    ("Enter", "open"),
    ("l", "log"),
    ("c", "cancel"),
    ("r", "again"),
    ("/", "filter"),
    ("a", "agents"),
    ("?", "keys"),
    ("q", "quit"),
    ("space", "mark"),
    ("e", "explain"),
    ("s", "sort"),
    ("p", "pause agent"),
    ("d", "drain"),
    ("y", "copy id"),
)
_MORE = {Group.ENDED: "ended", Group.NEXT: "scheduled", Group.FAILED: "failed lately", Group.DUE: "due"}


@dataclass(frozen=True)
class ListState:
    """What a person has chosen on the main screen."""

    #: Id of the current row's run, and the place where it stands, should it leave the list.
    current: str | None = None
    place: int = 0
    #: First row that is shown.
    top: int = 0
    marked: frozenset[str] = frozenset()
    #: Text of the filter, and by what the rows are sorted; empty for the one order.
    terms: str = ""
    sort: str = ""
    #: What came of the last action, or a warning; above the keys.
    note: str = ""
    note_style: str = ""
    #: Since when the source has not answered, and why; None if it does.
    away_since: datetime | None = None
    away_why: str = ""
    #: Whether the current row is seen by its colours; if not, it has a sign.
    coloured: bool = True


@dataclass(frozen=True)
class Shape:
    """Which part of the screen is for what: columns and lines."""

    width: int
    height: int
    alone: bool
    beside: int
    below: int
    attention: int
    #: Lines for rows of the list.
    rows: int

    @property
    def list_width(self) -> int:
        """Columns of the list."""
        return self.width - self.beside


@dataclass
class Drawn:
    """The lines of the screen, and what stands where."""

    lines: list[Line]
    #: Run of each line of the screen, for the mouse.
    runs: dict[int, str] = field(default_factory=dict)
    #: First row of the list that is shown.
    top: int = 0
    #: Run of the current row; None without rows.
    current: str | None = None
    shape: Shape | None = None


def shape_of(picture: Picture, width: int, height: int) -> Shape:
    """Return how a screen of this size is divided."""
    alone = width < ALONE_BELOW_WIDTH or height < ALONE_BELOW_HEIGHT
    if alone:
        return Shape(width, height, True, 0, 0, 0, max(0, height - 1))
    beside_width = max(58, round(width * 0.35)) if width >= BESIDE_FROM else 0
    attention = min(len(matters(picture)), height // 6) if height >= ATTENTION_FROM else 0
    # Head, host, titles, what is not shown, agents, keys.
    left = height - 6 - attention
    wants_below = height >= BELOW_FROM and not beside_width
    below = min(BELOW_LINES, max(0, left - 10)) if wants_below else 0
    return Shape(width, height, False, beside_width, below, attention, left - below)


def draw(
    picture: Picture, state: ListState, width: int, height: int, now: datetime, current_lines: Sequence[Line] = ()
) -> Drawn:
    """Return the main screen; `current_lines` are what is known of the current run, below or beside the list."""
    shape = shape_of(picture, width, height)
    rows = picture.rows
    place = next((n for n, row in enumerate(rows) if row.id == state.current), min(state.place, len(rows) - 1))
    top = _top(place, state.top, shape.rows, len(rows))
    columns = columns_for(rows, shape.list_width, now)
    drawn = Drawn([], top=top, current=rows[place].id if rows and place >= 0 else None, shape=shape)
    body = _body(picture, state, drawn, columns, now)
    if shape.alone:
        drawn.lines = body[:height]
        return drawn
    lines = [head_line(picture, state, width, now), host_line(picture, width)]
    lines += attention_lines(matters(picture), shape.attention, width)
    start = len(lines)
    drawn.runs = {n + start: run for n, run in drawn.runs.items()}
    lines += _with_beside(body, current_lines, shape) if shape.beside else body
    if shape.below:
        lines += _block(current_lines, shape.below)
    lines += [agents_line(picture.agents, width, now), note_or_keys(state, width)]
    drawn.lines = lines
    return drawn


def _body(picture: Picture, state: ListState, drawn: Drawn, columns: Columns, now: datetime) -> list[Line]:
    """Return titles, rows and what is not shown; as many lines as the shape has for them."""
    shape = drawn.shape
    assert shape is not None
    rows = picture.rows[drawn.top : drawn.top + shape.rows]
    titles = columns.titles()
    if shape.alone and state.away_since is not None:
        titles = line(Span(_away_text(state, now), "warn"))
    elif shape.alone and state.note:
        titles = line(Span(f" {clean(state.note)}", state.note_style))
    lines = [fitted(titles, shape.list_width)]
    for row in rows:
        drawn.runs[len(lines)] = row.id
        is_current = row.id == drawn.current
        sign = "*" if row.id in state.marked else ">" if is_current and not state.coloured else " "
        lines.append(columns.row(row, now, current=is_current, sign=sign))
    if not picture.rows:
        lines.append(fitted(line(Span(f" {clean(picture.nothing)}", "dim")), shape.list_width))
    if not shape.alone:
        below = len(picture.rows) - drawn.top - len(rows)
        lines.append(fitted(line(Span(_more(picture, below), "dim")), shape.list_width))
        lines += [()] * (shape.rows + 2 - len(lines))
    return lines


def _top(place: int, top: int, room: int, count: int) -> int:
    """Return the first row that is shown, so that the current one is among them, and none is wasted."""
    top = max(0, min(top, count - room))
    if place < top:
        return max(0, place)
    return max(top, place - room + 1) if room > 0 else top


def _more(picture: Picture, below: int) -> str:
    parts = [f"{number:,} more {_MORE[group]}" for group, number in picture.hidden.items() if group in _MORE and number]
    if below > 0:
        parts.insert(0, f"{below:,} more below")
    return f" … {', '.join(parts)}: / filters, End shows the last" if parts else ""


def _with_beside(body: Sequence[Line], lines: Sequence[Line], shape: Shape) -> list[Line]:
    found = []
    for n, left in enumerate(body):
        gap = " " * max(0, shape.list_width - line_width(left))
        right = fitted(lines[n], shape.beside - 2) if n < len(lines) else ()
        found.append(line(*left, gap, Span("▏", "dim"), " ", *right))
    return found


def _block(lines: Sequence[Line], height: int) -> list[Line]:
    return [*lines[:height], *([()] * (height - len(lines)))]


def head_line(picture: Picture, state: ListState, width: int, now: datetime) -> Line:
    """Return the first line: where, when, how many runs there are, or since when nothing answers."""
    title = line(" ", Span("flowherd", "bold"), "  ", clean(picture.source), "  ")
    if state.away_since is not None:
        return fitted(line(*title, Span(_away_text(state, now), "warn")), width)
    filtered = [Span(f"  /{clean(state.terms)}", "bold")] if state.terms else []
    ordered = [Span(f"  by {state.sort}", "dim")] if state.sort else []
    first = next((row for row in picture.rows if row.group is Group.NEXT and row.due is not None), None)
    right = line(f"next {until(first.due, now)}") if first is not None and first.due is not None else line()
    left = line(*title, local_time(now, now), *_counts(picture.rows), *filtered, *ordered)
    return beside(left, right, width)


def _away_text(state: ListState, now: datetime) -> str:
    since = local_time(state.away_since, now)
    return f" no answer since {since}, trying again: {clean(state.away_why)}".rstrip(": ")


def _counts(rows: Sequence[RunRow]) -> list[Span]:
    failed = sum(row.count for row in rows if row.group is Group.FAILED)
    parts = [
        (sum(row.group is Group.RUNNING for row in rows), "running", "run"),
        (failed, "failed", "bad"),
        (sum(row.group is Group.DUE for row in rows), "late", "warn"),
        (sum(bool(row.stuck) for row in rows), "stuck", "warn"),
    ]
    return [
        Span(f"  {count} {word}", style if count else "") for count, word, style in parts if count or word == "running"
    ]


def host_line(picture: Picture, width: int) -> Line:
    """Return the line of the host; empty if nothing is known of it."""
    host = picture.host
    if host is None:
        return ()
    wide = width >= 100
    parts: list[str] = []
    if host.load is not None:
        history = sparkline(host.load_history, 12 if wide else 6, float(host.cpus or 0) or None)
        parts.append(f"load {history}{'  ' if history else ''}{host.load:.1f} of {host.cpus or '?'}")
    if host.memory_used is not None and host.memory_total:
        share = host.memory_used / host.memory_total
        parts.append(f"mem {bar(share, 12 if wide else 6)} {_of(host.memory_used, host.memory_total)}")
    if host.disk_free is not None:
        parts.append(f"disk {_whole(host.disk_free)} free")
    if wide and host.pressure:
        parts.append("pressure " + " ".join(f"{name} {value:.0f}" for name, value in host.pressure.items()) + " %")
    if wide and host.up_s is not None:
        parts.append(f"up {coarse_span(host.up_s)}")
    return fitted(line(Span(" " + "   ".join(parts), "dim")), width)


def _of(used: int, total: int) -> str:
    left, right = _whole(used), _whole(total)
    return f"{left[:-1] if left[-1] == right[-1] else left} of {right}"


def _whole(count: int) -> str:
    """Return a size without a fraction from ten units on."""
    text = size(count)
    return f"{float(text[:-1]):.0f}{text[-1]}" if "." in text and float(text[:-1]) >= 10 else text


def agents_line(agents: Sequence[AgentRow], width: int, now: datetime) -> Line:
    """Return the line of the agents: how many runs each has of how many, and which claims nothing."""
    spans: list[Span] = []
    for place, agent in enumerate(agents):
        cell = _agent_cell(agent, width, now)
        last = place == len(agents) - 1
        if line_width([*spans, *cell]) > width - (0 if last else 12):
            spans.append(Span(f"  … {len(agents) - place} more: a", "dim"))
            break
        spans += cell
    return fitted(tuple(spans) if agents else line(Span(" no agent is known", "warn")), width)


def _agent_cell(agent: AgentRow, width: int, now: datetime) -> list[Span]:
    limit, runs = agent.limit, agent.runs or 0
    places = f"{runs}/{limit}" if limit is not None else f"{runs}"
    drawn = f"{bar(runs / limit, 8)} " if limit and width >= 100 else ""
    load = f" load {agent.load:.1f}/{agent.cpus or '?'}" if agent.load is not None and width >= 160 else ""
    state = agent_state(agent, now)
    style = "bad" if agent.is_away else "warn"
    return [
        Span(f" {clean(agent.name)} {drawn}{places}{load}", "" if not state else style),
        Span(f" {state}" if state else "", style),
        Span(" "),
    ]


def agent_state(agent: AgentRow, now: datetime) -> str:
    """Return the word for an agent that claims nothing; empty for one that does."""
    if agent.state == "connected":
        return ""
    if agent.is_away and agent.heard is not None:
        return f"away {coarse_span((now - agent.heard).total_seconds())}"
    return clean(agent.state)


def note_or_keys(state: ListState, width: int) -> Line:
    """Return the last line: what came of an action, else the keys that fit."""
    if state.note:
        return fitted(line(Span(f" {clean(state.note)}", state.note_style)), width)
    return keys_line(_KEYS, width)


def keys_line(keys: Sequence[tuple[str, str]], width: int) -> Line:
    """Return as many of these keys as fit; the others are in the list that `?` shows."""
    spans: list[Span] = [Span(" ")]
    for n, (key, word) in enumerate(keys):
        cell = [Span("  " if n else ""), Span(key, "bold"), Span(f" {word}")]
        if line_width([*spans, *cell]) > width:
            break
        spans += cell
    return line(*spans)

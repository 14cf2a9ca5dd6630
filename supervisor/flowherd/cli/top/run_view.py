"""One run on the whole screen: how it is, and its log, its story, its processes or its parameters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from flowherd.cli.format_times import local_time, short_span
from flowherd.cli.top.columns import SHORT_ID, elapsed
from flowherd.cli.top.folding import wrapped
from flowherd.cli.top.list_view import keys_line
from flowherd.cli.top.log_pane import LEVELS, LogPane
from flowherd.cli.top.picture import Figures, RunRow
from flowherd.cli.top.sources import Event, ProcessLine, RunPage
from flowherd.cli.top.spans import Line, Span, at_left, at_right, clean, coarse_span, fitted, line, size, sparkline
from flowherd.cli.top.state_marks import mark_of
from flowherd.story.order import Group

TABS = ("Log", "Story", "Processes", "Parameters")
#: Lines of the verdict with its details at most.
_MOST_SENTENCE = 4
_KEYS = (
    ("f", "follow"),
    ("/", "search"),
    ("n N", "next"),
    ("e E", "error"),
    ("v", "level"),
    ("[", "earlier"),
    ("c", "cancel"),
    ("r", "again"),
    ("y", "copy id"),
    ("Esc", "back"),
)
_TIME = 19
#: The highest block of a CPU curve stands for at least this much of a processor, percent.
_LEAST_CPU = 10.0


@dataclass
class RunState:
    """What a person has chosen on the screen of a run."""

    tab: int = 0
    #: First line of the tabs other than the log.
    top: int = 0
    level: int = 0
    pane: LogPane = field(default_factory=LogPane)
    note: str = ""
    note_style: str = ""
    away_since: datetime | None = None


def draw(row: RunRow, page: RunPage | None, state: RunState, width: int, height: int, now: datetime) -> list[Line]:
    """Return the screen of a run."""
    head = [title_line(row, width), _times(row, width, now), *_sentence(row, page, width), (), _tabs(state, width)]
    room = body_height(len(head), height)
    if state.tab == 0:
        body = state.pane.draw(width, room)
    else:
        body = tab_lines(state.tab, row, page, width, now)
        state.top = max(0, min(state.top, len(body) - room))
        body = body[state.top : state.top + room]
    keys = line(Span(f" {clean(state.note)}", state.note_style)) if state.note else keys_line(_KEYS, width)
    if state.away_since is not None:
        keys = line(Span(f" no answer since {local_time(state.away_since, now)}, trying again", "warn"))
    return [*(fitted(one, width) for one in (*head, *body)), *([()] * (room - len(body))), fitted(keys, width)][:height]


def body_height(head: int, height: int) -> int:
    """Return the number of lines between the head and the keys."""
    return max(1, height - head - 1)


def head_height(row: RunRow, page: RunPage | None, width: int) -> int:
    """Return the number of lines above the log."""
    return 4 + len(_sentence(row, page, width))


def title_line(row: RunRow, width: int) -> Line:
    """Return flow, name, id, state and agent of a run."""
    sign, word, style = mark_of(row)
    names = line(
        " ", Span(clean(row.flow), "bold"), f"  {clean(row.name)}" if row.name else "", f"  {row.id[:SHORT_ID]}"
    )
    return fitted(
        line(*names, "  ", Span(f"{sign} {word}", style), f"  {clean(row.agent)}" if row.agent else ""), width
    )


def _times(row: RunRow, width: int, now: datetime) -> Line:
    usual = f", usually {coarse_span(row.usual_s)}" if row.usual_s is not None else ""
    if row.started is not None:
        took = elapsed(row, now)
        text = f"{local_time(row.started, now)}, {'took' if row.ended else 'running for'} {took}{usual}"
    elif row.due is not None:
        text = f"due {local_time(row.due, now)}{usual}"
    else:
        text = "not started"
    return fitted(line(Span(f" {text}", "dim")), width)


def _sentence(row: RunRow, page: RunPage | None, width: int) -> list[Line]:
    text, style = clean(row.stuck or row.says or row.state), mark_of(row).style
    if page is not None:
        text, style = clean(page.sentence), page.style
    grade = page.grade if page is not None else ""
    lines = wrapped(line(Span(text, style or "bold"), Span(f"  {grade}" if grade else "", "dim")), width - 1)
    for detail in page.details if page is not None else ():
        lines += wrapped(line(Span(clean(detail))), width - 1)
    return [line(" ", *one) for one in lines[:_MOST_SENTENCE]]


def _tabs(state: RunState, width: int) -> Line:
    spans: list[Span] = [Span(" ")]
    for n, name in enumerate(TABS):
        spans.append(Span(f"{n + 1} {name}", "current" if n == state.tab else ""))
        spans.append(Span("  "))
    if state.tab == 0:
        pane = state.pane
        follow = ", following" if pane.following else ""
        spans.append(Span(f" {LEVELS[state.level][0]}{follow}", "dim"))
        if pane.search:
            spans.append(Span(f"  /{clean(pane.search)} {pane.count()}", "bold"))
    return fitted(tuple(spans), width)


def tab_lines(tab: int, row: RunRow, page: RunPage | None, width: int, now: datetime) -> list[Line]:
    """Return the lines of the story, the processes or the parameters."""
    if page is None:
        return [line(Span(" Reading…", "dim"))]
    if tab == 1:
        return story_lines(page.events, width, now)
    if tab == 2:
        return [*figure_lines(figures_of(row, page), width), *process_lines(page, width)]
    return parameter_lines(page, width)


def story_lines(events: Sequence[Event], width: int, now: datetime) -> list[Line]:
    """Return what happened, with its times."""
    lines = []
    words = max([8, *(len(event.what) for event in events)])
    for event in events:
        at = _moment(event.at, now)
        head = line(Span(f" {at_left(at, _TIME)} ", "dim"), Span(at_left(clean(event.what), words), event.style), "  ")
        indent = _TIME + words + 4
        first, *more = wrapped(line(Span(clean(event.detail))), max(16, width - indent)) or [()]
        lines += [line(*head, *first), *(line(" " * indent, *rest) for rest in more)]
    return lines or [line(Span(" Nothing is known of what happened.", "dim"))]


def _moment(at: datetime | None, now: datetime) -> str:
    if at is None:
        return ""
    local = at.astimezone()
    if local.date() == now.astimezone().date():
        return f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}"
    return f"{local.day} {local:%b %H:%M:%S}.{local.microsecond // 1000:03d}"


def figures_of(row: RunRow, page: RunPage | None) -> Figures | None:
    """Return the figures of a run, with the curves that its page has."""
    curves = page.figures if page is not None else None
    if row.figures is None or curves is None:
        return row.figures or curves
    return replace(row.figures, cpu_history=curves.cpu_history, memory_history=curves.memory_history)


def figure_lines(figures: Figures | None, width: int) -> list[Line]:
    """Return the curves of CPU and memory; nothing if they are not known."""
    if figures is None:
        return []
    room = max(8, min(44, width - 36))
    lines = []
    if figures.cpu_percent is not None or figures.cpu_history:
        now = "" if figures.cpu_percent is None else f" {figures.cpu_percent:.0f} %"
        lines.append(
            line(f" CPU    {sparkline(figures.cpu_history, room, max([_LEAST_CPU, *figures.cpu_history]))}{now}")
        )
    if figures.memory_bytes is not None or figures.memory_history:
        limit = f" of {size(figures.limit_bytes)}" if figures.limit_bytes else ""
        peak = f", peak {size(figures.peak_bytes)}" if figures.peak_bytes else ""
        now = "" if figures.memory_bytes is None else size(figures.memory_bytes)
        curve = sparkline(figures.memory_history, room, figures.limit_bytes)
        lines.append(line(f" memory {curve} {now}{limit}{peak}".replace(" , ", " ")))
    return [*lines, ()] if lines else []


def process_lines(page: RunPage, width: int, most: int = 500) -> list[Line]:
    """Return the processes, each below the one that started it; the last line tells how many are not shown."""
    if not page.processes:
        return [line(Span(f" {page.no_processes}", "dim"))]
    shown = page.processes if len(page.processes) <= most else page.processes[: max(0, most - 1)]
    depths = [*(one.depth for one in shown), 0]
    lines = [_process(one, width, last=_is_last(depths, n)) for n, one in enumerate(shown)]
    if len(shown) < len(page.processes):
        lines.append(line(Span(f" … {len(page.processes) - len(shown)} more", "dim")))
    return lines


def _is_last(depths: Sequence[int], place: int) -> bool:
    """Return whether the process at this place is the last one that its parent has started."""
    return next(depth for depth in depths[place + 1 :] if depth <= depths[place]) < depths[place]


def _process(one: ProcessLine, width: int, *, last: bool) -> Line:
    tail = at_right("" if one.cpu_time_s is None else short_span(one.cpu_time_s), 9)
    tail += at_right("" if one.memory_bytes is None else size(one.memory_bytes), 7)
    branch = "   " * (one.depth - 1) + ("└─ " if last else "├─ ") if one.depth else ""
    head = f" {branch}{one.pid} {clean(one.command)}"
    return line(at_left(head, max(8, min(width, 100) - len(tail))), tail)


def parameter_lines(page: RunPage, width: int) -> list[Line]:
    """Return the parameters and the further facts."""
    named = {name: json.dumps(value, ensure_ascii=False, default=str) for name, value in page.parameters.items()}
    lines: list[Line] = [] if named else [line(Span(" It has no parameters.", "dim"))]
    for title, values in (("", named), ("More", page.facts)):
        if not values:
            continue
        if title:
            lines += [(), line(Span(f" {title}", "bold"))]
        names = min(28, max(len(name) for name in values))
        for name, value in values.items():
            head = at_left(clean(name), names)
            first, *more = wrapped(line(Span(clean(value))), max(16, width - names - 3)) or [()]
            lines += [line(f" {head}  ", *first), *(line(" " * (names + 3), *rest) for rest in more)]
    return lines


def is_waiting(row: RunRow) -> bool:
    """Return whether the run has not started."""
    return row.group in (Group.DUE, Group.NEXT)

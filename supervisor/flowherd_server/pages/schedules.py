"""The schedules: `/schedules`, one line each by its next time, with when it fires within the next 24 hours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import or_, select

from flowherd.story.agent_report import read_agent_report
from flowherd.web.environment import when
from flowherd.web.flow_drawings import lane
from flowherd.web.formats import counted, until
from flowherd_server.label_rule import labels_match
from flowherd_server.pages.firings import DAY_US, Firings, firings_of_day, greatest_pile
from flowherd_server.pages.flow_rows import FlowRow, flow_rows, outcomes
from flowherd_server.pages.frame import Ask, Page
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.tables import AGENT, FLOW, FLOW_GROUP

if TYPE_CHECKING:
    from markupsafe import Markup

#: Maximum number of schedules on the page.
_MOST = 500
#: Number of last runs that are drawn.
_DOTS = 12
#: Hours between two times above the lanes.
_AXIS_HOURS = 3


@dataclass(frozen=True)
class _Line:
    flow: FlowRow
    day: Firings
    next: datetime | None
    next_in_s: float
    lane: Markup
    dots: Sequence[str]
    dots_label: str


def schedules_page(ask: Ask) -> Page:
    """Return the page."""
    has_one = or_(FLOW.c.schedule.is_not(None), FLOW_GROUP.c.schedule.is_not(None))
    rows = flow_rows(ask.core, ask.connection, ask.now_us, has_one)
    lines = sorted((_line(row, ask) for row in rows), key=_place)
    active = [line for line in lines if line.flow.is_active]
    paused = len(lines) - len(active)
    headline = _headline(len(lines), active, paused)
    return Page(
        template="schedules.html",
        title=headline,
        values={
            "headline": headline,
            "sentence": _pile(ask, active),
            "lines": lines[:_MOST],
            "more": len(lines) - _MOST,
            "axis": [ask.now + timedelta(hours=hours) for hours in range(_AXIS_HOURS, 24, _AXIS_HOURS)],
            "active": len(active),
            "paused": paused,
        },
        here="/schedules",
        live=("flows", "runs"),
    )


def _line(row: FlowRow, ask: Ask) -> _Line:
    from markupsafe import Markup

    day = firings_of_day(row.schedule or {}, ask.now_us)
    at_us = day.next_us if row.is_active else None
    if row.is_active and at_us is None:
        at_us = row.next_us
    runs = row.past[:_DOTS]
    drawn = lane([(at - ask.now_us) / DAY_US for at in day.times], day.hours, is_off=not row.is_active)
    return _Line(
        flow=row,
        day=day,
        next=None if at_us is None else to_datetime(at_us),
        next_in_s=0.0 if at_us is None else (at_us - ask.now_us) / SECOND_US,
        lane=Markup(drawn),
        dots=[run.kind for run in reversed(runs)],
        dots_label=outcomes(runs),
    )


def _place(line: _Line) -> tuple[bool, float, str]:
    """Return the sort key: the next time; paused ones last."""
    return line.next is None, line.next_in_s, line.flow.name


def _headline(number: int, active: Sequence[_Line], paused: int) -> str:
    if not number:
        return "No flow has a schedule."
    coming = [line.next_in_s for line in active if line.next is not None]
    said = f"the next fires {until(min(coming))}" if coming else "none fires any more"
    if not active:
        return f"{counted(number, 'schedule')}, all paused."
    return f"{counted(number, 'schedule')}{f', {paused} paused' if paused else ''}; {said}."


def _pile(ask: Ask, active: Sequence[_Line]) -> Markup | str:
    """Return when the most schedules fire at once, and for how many runs there are slots then."""
    at_us, most = greatest_pile([line.day for line in active])
    if most < 2:
        return ""
    from markupsafe import Markup, escape

    minute_us = 60 * SECOND_US
    then = [line.flow for line in active if any(0 <= at - at_us < minute_us for at in line.day.times)]
    said = escape(_slots(ask, then))
    return Markup("Most at once: {} at {}{}.").format(most, Markup(when(to_datetime(at_us))), said)


def _slots(ask: Ask, flows: Sequence[FlowRow]) -> str:
    rows = ask.connection.execute(select(AGENT.c.id, AGENT.c.name, AGENT.c.labels, AGENT.c.report)).all()
    takers = {
        row.name or row.id: read_agent_report(row.report)
        for row in rows
        if ask.core.board.is_connected(row.id) and any(labels_match(flow.labels, row.labels) for flow in flows)
    }
    if not takers:
        return "; no agent that would take them is there"
    limits = [None if report is None else report.limit for report in takers.values()]
    whose = f"on {next(iter(takers))}, which has" if len(takers) == 1 else f"on {len(takers)} agents, which have"
    if None in limits:
        return f", {whose} no limit"
    return f", {whose} {counted(sum(limit for limit in limits if limit is not None), 'slot')}"

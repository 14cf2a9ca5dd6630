"""The overview: how things stand in a sentence, what needs attention, what goes on, what has ended and what is next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, func, select

from flowherd.states import RunState
from flowherd.story.order import Group, Line
from flowherd.web.formats import counted
from flowherd_server.pages.agent_views import ShownAgent
from flowherd_server.pages.attention import needs
from flowherd_server.pages.frame import FIGURES, Ask, Page
from flowherd_server.pages.host_line import host_line
from flowherd_server.pages.run_rows import RunRow, rows_with_news, run_rows
from flowherd_server.runs.day_counts import Day
from flowherd_server.runs.runs_in_order import runs_in_order
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: Number of runs that ended lately, and of flows with a next run, that are shown.
_ENDED, _NEXT = 8, 8
#: Number of things that need attention that are shown, so that what runs stands on the first screen, and the parameter
#: of the address that shows all.
_NEEDS, _ALL_NEEDS = 4, "needs"
_HOUR_US, _DAY_US = 3600 * SECOND_US, 86400 * SECOND_US


def overview_page(ask: Ask) -> Page:
    """Return the overview."""
    agents = ask.agents
    runs = runs_in_order(ask.connection)
    lines = _groups(runs.lines)
    rows = {group: run_rows(ask, some, agents) for group, some in lines.items()}
    attention = needs(ask, [*rows[Group.RUNNING], *rows[Group.DUE]], agents, ask.core.host.newest)
    day = ask.core.day.of_last_day(ask.connection, ask.now_us)
    values = {
        "headline": _headline(runs.lines, rows, len(attention), agents),
        "day": day,
        "host": host_line(ask.core.host),
        "attention": attention if ask.query.get(_ALL_NEEDS) == "all" else attention[:_NEEDS],
        "more_attention": 0 if ask.query.get(_ALL_NEEDS) == "all" else max(0, len(attention) - _NEEDS),
        "running": rows[Group.RUNNING],
        "ended": _ended_lately(rows)[:_ENDED],
        "more_ended": max(0, day.well + day.badly + day.cancelled - _ENDED),
        "agents": agents,
        "nexts": _nexts(ask, rows[Group.NEXT]),
        "is_empty": not runs.lines,
        "due": len(rows[Group.DUE]) + runs.hidden.get(Group.DUE, 0),
        "slots": _slots(agents),
        "axis": _axis(day, ask.now),
    }
    title = str(values["headline"])
    return Page(
        template="overview.html",
        title=title,
        values=values,
        here="/",
        live=("runs", "logs", "flows", FIGURES),
        refresh=rows_with_news([("running", lines[Group.RUNNING], rows[Group.RUNNING])], agents, "overview_news.html"),
    )


def _groups(lines: Sequence[Line[RowMapping]]) -> dict[Group, list[Line[RowMapping]]]:
    found: dict[Group, list[Line[RowMapping]]] = {group: [] for group in Group}
    for line in lines:
        found[line.group].append(line)
    return found


def _headline(
    lines: Sequence[Line[RowMapping]],
    rows: Mapping[Group, Sequence[RunRow]],
    attention: int,
    agents: Sequence[ShownAgent],
) -> str:
    running, alive = len(rows[Group.RUNNING]), any(agent.view.connected or not agent.is_away for agent in agents)
    if not lines:
        return "Nothing has run here yet." if alive else "Nothing has run here yet, and no agent is there."
    if not alive:
        return f"No agent is there, so nothing starts. {counted(attention, 'thing')} need attention."
    going = f"{counted(running, 'run')} in progress" if running else "Nothing is running"
    if not attention:
        return f"{going}, nothing needs attention."
    return f"{going}, {counted(attention, 'thing')} {'needs' if attention == 1 else 'need'} attention."


def _ended_lately(rows: Mapping[Group, Sequence[RunRow]]) -> list[RunRow]:
    """Return those that failed and those that ended otherwise, the newest first."""
    ended = [*rows[Group.FAILED], *rows[Group.ENDED]]
    return sorted(ended, key=lambda row: -(row.ended.timestamp() if row.ended else 0.0))


def _nexts(ask: Ask, rows: Sequence[RunRow]) -> list[tuple[RunRow, str]]:
    """Return the next run of each flow, the soonest first, and how many more of it come soon."""
    coming = [row for row in rows if row.at is not None and row.at > ask.now and row.mark.word == RunState.SCHEDULED]
    coming = coming[:_NEXT]
    hour, day = (_scheduled(ask, [row.flow for row in coming], until) for until in (_HOUR_US, _DAY_US))
    shown = []
    for row in coming:
        in_hour, in_day = hour.get(row.flow, 0) - 1, day.get(row.flow, 0) - 1
        more = f"+{in_hour} this hour" if in_hour > 0 else f"+{in_day} in 24 h" if in_day > 0 else ""
        shown.append((row, more))
    return shown


def _scheduled(ask: Ask, flows: Sequence[str], within_us: int) -> dict[str, int]:
    """Return how many runs of these flows are scheduled within a time from now."""
    if not flows:
        return {}
    coming = FLOW_RUN.c.state == RunState.SCHEDULED.value, FLOW_RUN.c.scheduled_start_time >= ask.now_us
    query = select(FLOW.c.name, func.count()).join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id).where(*coming)
    query = query.where(FLOW_RUN.c.scheduled_start_time < ask.now_us + within_us, FLOW.c.name.in_(set(flows)))
    return {row[0]: row[1] for row in ask.connection.execute(query.group_by(FLOW.c.name))}


def _slots(agents: Sequence[ShownAgent]) -> tuple[int, int] | None:
    """Return how many slots of the living agents are in use, and how many there are; None if one has no limit."""
    reports = [agent.view.report for agent in agents if not agent.is_away and agent.view.report is not None]
    limits = [report.limit for report in reports]
    if not limits or None in limits:
        return None
    # The server's own count, as in the agents' panels: a report may be a minute old.
    runs = sum(agent.runs for agent in agents if not agent.is_away and agent.view.report is not None)
    return runs, sum(limit or 0 for limit in limits)


def _axis(day: Day, now: datetime) -> list[datetime]:
    """Return the times below the chart: its beginning, and each quarter of the day."""
    first = now.timestamp() // 1800 * 1800 - (len(day.columns) - 1) * 1800
    return [to_datetime(round((first + quarter * 6 * 3600) * SECOND_US)) for quarter in range(4)]

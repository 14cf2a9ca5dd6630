"""The overview: what goes on, what needs attention, what comes next."""

from __future__ import annotations

from sqlalchemy import RowMapping, select

from flowherd.story.agent_report import read_agent_report
from flowherd.story.order import Group, Line
from flowherd.web import marks
from flowherd.web.formats import counted
from flowherd_server.pages.frame import Ask, Page
from flowherd_server.runs.runs_in_order import runs_in_order
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.tables import AGENT

#: Agents without a request for this time are not listed.
_AGENT_AGE_US = 24 * 3600 * SECOND_US


def overview_page(ask: Ask) -> Page:
    """Return the overview."""
    runs = runs_in_order(ask.connection)
    groups: dict[Group, list[Line[RowMapping]]] = {group: [] for group in Group}
    for line in runs.lines:
        groups[line.group].append(line)
    running = len(groups[Group.RUNNING])
    headline = f"{counted(running, 'run')} in progress." if runs.lines else "Nothing has run here yet."
    values = {"headline": headline, "groups": groups, "agents": _agents(ask)}
    return Page(template="overview.html", title=headline, values=values, here="/", live="overview")


def _agents(ask: Ask) -> list[dict[str, object]]:
    query = select(AGENT).where(AGENT.c.last_queried > ask.now_us - _AGENT_AGE_US)
    shown = []
    for row in ask.connection.execute(query.order_by(AGENT.c.last_queried.desc())).mappings():
        report = read_agent_report(row["report"])
        mark = marks.CONNECTED if ask.core.board.is_connected(row["id"]) else marks.AWAY
        if report is not None and report.hold and mark is marks.CONNECTED:
            mark = marks.PAUSED
        shown.append({"name": row["name"], "mark": mark, "says": report.hold_reason if report else ""})
    return shown

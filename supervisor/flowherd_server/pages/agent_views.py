"""The agents as the pages show them: of those with one name the newest, with what it reported last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import RowMapping, Select, select

from flowherd.states import TAKEN
from flowherd.story.agent_report import read_agent_report
from flowherd.story.records import AgentView
from flowherd.web import marks
from flowherd.web.marks import Mark
from flowherd_server.pages.frame import Ask
from flowherd_server.store.microseconds import to_datetime
from flowherd_server.store.tables import AGENT, FLOW_RUN

#: Agents without a request for this time are not listed.
_LISTED = timedelta(hours=24)


@dataclass(frozen=True)
class ShownAgent:
    """One agent, under its name."""

    view: AgentView
    mark: Mark
    #: Why it claims nothing; empty if it claims.
    hold: str

    @property
    def is_away(self) -> bool:
        """Whether it has not been heard of for a minute, and has not said that it ends."""
        return self.mark is marks.AWAY

    @property
    def says(self) -> str:
        """What it does, in a few words; empty where its last contact tells more."""
        if self.hold:
            return self.hold
        return "waits for work" if self.view.connected else ""


def shown_agents(ask: Ask) -> list[ShownAgent]:
    """Return the agents of the last day: those that are away first, then by name."""
    newest: dict[str, AgentView] = {}
    runs = _runs_of(ask)
    for row in ask.connection.execute(_select(ask)).mappings():
        view = _view(ask, row, runs.get(row["id"], 0))
        known = newest.setdefault(view.name or view.id, view)
        if known is not view and view.runs:  # an earlier life of it may have runs that go on
            newest[view.name or view.id] = AgentView(**{**vars(known), "runs": (known.runs or 0) + view.runs})
    shown = [_shown(ask, view) for view in newest.values()]
    return sorted(shown, key=lambda agent: (not agent.is_away, agent.view.name))


def _select(ask: Ask) -> Select[Any]:
    since = ask.now_us - _LISTED // timedelta(microseconds=1)
    return select(AGENT).where(AGENT.c.last_queried > since).order_by(AGENT.c.last_queried.desc())


def _runs_of(ask: Ask) -> dict[str, int]:
    """Return the number of runs that each agent has, by its id."""
    # Not grouped by the database, which would go through the index of agents with all runs that have ended.
    taken = select(FLOW_RUN.c.agent_id).where(FLOW_RUN.c.state.in_(sorted(TAKEN)))
    return Counter(agent_id for agent_id in ask.connection.execute(taken).scalars() if agent_id is not None)


def _view(ask: Ask, row: RowMapping, runs: int) -> AgentView:
    return AgentView(
        id=row["id"],
        name=row["name"] or "",
        labels=tuple(row["labels"]),
        last_queried=to_datetime(row["last_queried"]),
        # Between two connections it deals with what woke it: only the time of its last request tells.
        connected=ask.core.board.is_connected(row["id"]) or None,
        report=read_agent_report(row["report"]),
        reported=None if row["reported"] is None else to_datetime(row["reported"]),
        runs=runs,
    )


def _shown(ask: Ask, view: AgentView) -> ShownAgent:
    report = view.report
    hold = report.hold if report is not None else ""
    reason = report.hold_reason if report is not None else ""
    if not view.alive(ask.now):
        ended = hold in ("draining", "stopping", "restarting")
        return ShownAgent(view, marks.STOPPED if ended else marks.AWAY, "")
    if hold:
        return ShownAgent(view, marks.DRAINING if hold == "draining" else marks.PAUSED, reason or hold)
    return ShownAgent(view, marks.CONNECTED if view.connected else marks.POLLING, "")

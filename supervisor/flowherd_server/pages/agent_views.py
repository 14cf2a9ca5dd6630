"""The agents that the server knows, as the pages show them, with what each reported last."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, RowMapping, select

from flowherd.states import TAKEN
from flowherd.story import agent_rows as states
from flowherd.story.agent_report import AgentReport, read_agent_report
from flowherd.story.agent_rows import AgentRow, agent_rows
from flowherd.story.records import AgentView
from flowherd.web import marks
from flowherd.web.marks import Mark
from flowherd_server.service import ServerCore
from flowherd_server.store.microseconds import now_us, to_datetime
from flowherd_server.store.tables import AGENT, FLOW_RUN

if TYPE_CHECKING:
    from flowherd_server.pages.frame import Ask

_MARKS = {
    states.CONNECTED: marks.CONNECTED,
    states.PAUSED: marks.PAUSED,
    states.DRAINING: marks.DRAINING,
    states.AWAY: marks.AWAY,
    states.STOPPED: marks.STOPPED,
}


@dataclass(frozen=True)
class ShownAgent:
    """One agent, under its name."""

    row: AgentRow
    mark: Mark

    @property
    def view(self) -> AgentView:
        """Its newest row, with the runs of all rows of its name."""
        return self.row.agent

    @property
    def is_away(self) -> bool:
        """Whether it has not been heard of for a minute, and has not said that it ends."""
        return self.row.state == states.AWAY

    @property
    def runs(self) -> int:
        """Number of its runs that go on."""
        return self.row.runs or 0

    @property
    def says(self) -> str:
        """What it does, in a few words; empty where its last contact tells more."""
        return self.row.why() or ("waits for work" if self.view.connected else "")


def shown_agents(ask: Ask) -> list[ShownAgent]:
    """Return the agents that were heard of within a day or have runs, trouble first."""
    rows = (row for row in known_agents(ask.core, ask.connection) if row.was_heard_lately)
    return [ShownAgent(row, mark_of_agent(row)) for row in rows]


def mark_of_agent(row: AgentRow) -> Mark:
    """Return the mark of an agent's state."""
    if row.state == states.CONNECTED and not row.agent.connected:
        return marks.POLLING
    return _MARKS.get(row.state) or Mark("wait", marks.PAUSED.glyph, row.state.capitalize())


def known_agents(core: ServerCore, connection: Connection) -> list[AgentRow]:
    """Return all agents that the server knows, trouble first."""
    # Not grouped by the database, which would go through the index of agents with all runs that have ended.
    taken = select(FLOW_RUN.c.agent_id).where(FLOW_RUN.c.state.in_(sorted(TAKEN)))
    runs = Counter(agent_id for agent_id in connection.execute(taken).scalars() if agent_id is not None)
    # What came in last is not in the database yet.
    reports = {one.agent_id: one.report for one in reversed(core.live.agents())}
    rows = connection.execute(select(AGENT)).mappings()
    return agent_rows(
        [_view(core, row, runs[row["id"]], reports.get(row["id"])) for row in rows], to_datetime(now_us())
    )


def _view(core: ServerCore, row: RowMapping, runs: int, report: AgentReport | None) -> AgentView:
    return AgentView(
        id=row["id"],
        name=row["name"] or "",
        labels=tuple(row["labels"]),
        last_queried=None if row["last_queried"] is None else to_datetime(row["last_queried"]),
        # Without a connection it may poll: then a minute without a request tells that it is away.
        connected=core.board.is_connected(row["id"]) or None,
        report=report or read_agent_report(row["report"]),
        reported=None if row["reported"] is None else to_datetime(row["reported"]),
        runs=runs,
    )

"""The agents of a server as a list shows them: rows of one name on one host are one agent, and trouble stands first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flowherd.story.agent_report import AgentReport
from flowherd.story.records import AgentView

#: Agents that have not been heard of for longer are shown on request only.
_LATELY = timedelta(hours=24)
#: Words of a hold by which an agent announces its end.
_ENDING = frozenset({"stopping", "draining"})
#: States of an agent.
AWAY, DRAINING, PAUSED, STOPPED, CONNECTED = "away", "draining", "paused", "stopped", "connected"
#: In this order states are listed; others between the last two.
_ORDER = (AWAY, DRAINING, PAUSED, STOPPED, CONNECTED)
_NOTHING = AgentReport()


@dataclass(frozen=True)
class AgentRow:
    """An agent: all rows of the server with its name and host are one."""

    agent: AgentView
    #: One of the states above, or another word by which it says why it claims nothing.
    state: str
    #: Number of runs that it has; None if that is not known.
    runs: int | None
    now: datetime
    #: The ids of all these rows.
    ids: tuple[str, ...]

    @property
    def report(self) -> AgentReport:
        """What it last reported of itself; nothing if it does not."""
        return self.agent.report or _NOTHING

    @property
    def is_there(self) -> bool:
        """Whether it is connected, or has asked for runs recently."""
        return self.agent.alive(self.now)

    @property
    def was_heard_lately(self) -> bool:
        """Whether it is there, was heard of within a day, or has runs."""
        heard = self.agent.last_queried
        return self.is_there or bool(self.runs) or (heard is not None and self.now - heard < _LATELY)

    def places(self) -> str:
        """Return how many runs it has, and the most that it takes: 5 of 8."""
        if self.runs is None:
            return ""
        return f"{self.runs} of {self.report.limit}" if self.report.limit is not None else str(self.runs)

    def why(self) -> str:
        """Return why it claims nothing, if it said so."""
        return self.report.hold_reason if self.state not in (CONNECTED, AWAY, STOPPED) else ""


def agent_rows(found: Iterable[AgentView], now: datetime) -> list[AgentRow]:
    """Return the agents, trouble first; rows of one name on one host are one agent, which was started again."""
    same: dict[Any, list[AgentView]] = {}
    for agent in found:
        host = agent.report.host if agent.report is not None else None
        same.setdefault((agent.name, host or agent.labels), []).append(agent)
    rows = []
    for views in same.values():
        newest = max(
            views, key=lambda view: (view.alive(now), view.last_queried or datetime.min.replace(tzinfo=now.tzinfo))
        )
        counts = [view.runs for view in views if view.runs is not None]
        runs = sum(counts) if counts else None
        rows.append(AgentRow(newest, _state(newest, runs, now), runs, now, tuple(view.id for view in views)))
    return sorted(rows, key=lambda row: (_place(row.state), row.agent.name))


def _state(agent: AgentView, runs: int | None, now: datetime) -> str:
    hold = agent.report.hold if agent.report is not None else ""
    if agent.alive(now):
        return hold or CONNECTED
    if hold in _ENDING:
        # An agent that drains asks for no runs any more; its last report says so, and its runs go on.
        return DRAINING if hold == DRAINING and runs else STOPPED
    return AWAY


def _place(state: str) -> int:
    return _ORDER.index(state) if state in _ORDER else _ORDER.index(STOPPED)

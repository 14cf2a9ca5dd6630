"""What a server has of a run, of its states and of its agents, as plain values.

The client makes them from a server's answers, and flowherd's server from its tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from flowherd.states import FINISHED, SUCCESSFUL
from flowherd.story.agent_report import AgentReport

if TYPE_CHECKING:
    from flowherd.story.live import RunFigures

#: An agent that asked for runs within this many seconds is alive; the dialect's own clients use the same number.
AGENT_ALIVE_S = 60.0
#: The same if the server knows which agents are connected: between two connections an agent deals with what woke it.
AGENT_BUSY_S = 5.0


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Which flow run it is, and how it is."""

    id: str
    name: str
    state: str
    message: str | None

    @property
    def finished(self) -> bool:
        """Whether its state is final."""
        return self.state in FINISHED

    @property
    def successful(self) -> bool:
        """Whether it ended well."""
        return self.state in SUCCESSFUL


@dataclass(frozen=True, kw_only=True)
class RunRecord(RunSummary):
    """A flow run with all that its story needs."""

    flow: str
    labels: tuple[str, ...]
    #: Id of the agent that claimed it last.
    agent_id: str | None
    created: datetime | None
    scheduled_start_time: datetime | None
    #: When it may start, if that is not the time that it was created for: the time of its state, such as a retry's.
    state_start_time: datetime | None = None
    start_time: datetime | None
    end_time: datetime | None
    #: Id of the run that this one repeats; None if it repeats none, or the server does not remember it.
    repeats: str | None = None
    #: What its processes use, while it runs; None if its agent has not reported it, or nobody asked.
    figures: RunFigures | None = None
    #: Why it counts as stuck; empty if it does not, or nobody asked.
    stuck: str = ""
    #: Who created it (asked_by.py); None if that is not known.
    created_by: str | None = None

    @property
    def due(self) -> datetime | None:
        """When it may start, or might have."""
        return self.state_start_time or self.scheduled_start_time


@dataclass(frozen=True, kw_only=True)
class StateView:
    """One state that a flow run was in."""

    version: int
    state: str
    at: datetime | None
    message: str | None
    #: Pid of the flow process; like the next two None if no flowherd agent has reported it.
    pid: int | None
    reason: str | None
    grade: str | None
    #: When the run went on, as its runner wrote it down; only in the state of the end.
    phases: tuple[tuple[str, float], ...] = ()
    #: When the server stored it; None if that is not known.
    stored: datetime | None = None
    #: Who asked for it (asked_by.py); None if nobody did, or that is not known.
    by: str | None = None


@dataclass(frozen=True, kw_only=True)
class NoticeView:
    """A line that flowherd itself wrote into a run's log."""

    at: datetime | None
    message: str


@dataclass(frozen=True, kw_only=True)
class WaitingTaskView:
    """A task run that waits, in a flow run that has been started by its own engine."""

    task: str
    state: str
    #: When it may go on; None if it waits for a person.
    due: datetime | None


@dataclass(frozen=True, kw_only=True)
class AgentView:
    """An agent as the server knows it."""

    id: str
    name: str
    labels: tuple[str, ...]
    last_queried: datetime | None
    #: Whether it holds a connection to the server; None if the server cannot tell.
    connected: bool | None = None
    #: What it last reported of itself, and when; None if it has not, or the server keeps no reports.
    report: AgentReport | None = None
    reported: datetime | None = None
    #: Number of runs that it has claimed and that have not ended; None if that was not asked.
    runs: int | None = None

    def alive(self, now: datetime) -> bool:
        """Return whether it is connected or has asked for runs recently."""
        if self.connected:
            return True
        limit_s = AGENT_ALIVE_S if self.connected is None else AGENT_BUSY_S
        return self.last_queried is not None and now - self.last_queried < timedelta(seconds=limit_s)


def missing_labels(wanted: Collection[str], agents: Collection[AgentView]) -> list[str] | None:
    """Return the labels that the closest of `agents` lacks for a run that wants `wanted`; None if one takes the run.

    The dialect's rule: an agent needs all labels of a run, and a run without labels goes only to an agent without.
    An empty list means that the run has no labels and every agent has some.
    """
    lacking = [sorted(set(wanted) - set(agent.labels)) for agent in agents if wanted or not agent.labels]
    if any(not labels for labels in lacking):
        return None
    return min(lacking, key=len, default=sorted(wanted))


def agent_name(agents: Iterable[AgentView], agent_id: str | None) -> str | None:
    """Return the name of the agent with this id; None if none of `agents` has it."""
    return next((agent.name for agent in agents if agent.id == agent_id), None)

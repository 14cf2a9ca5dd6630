"""The context of one change: who asked for it, its transaction, and whom it wakes once it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, RowMapping

from flowherd.run_token import RunToken
from flowherd.states import RunState
from flowherd.story.live_news import Action, LiveNews
from flowherd_server.errors import Refused
from flowherd_server.offers import DueRun, OfferBook, Passed


class Moved(NamedTuple):
    """A flow run, as it was stored before, that has entered another state."""

    run: Mapping[str, Any] | RowMapping
    state: RunState
    at_us: int
    serialized: Mapping[str, Any]


@dataclass
class Effects:
    """Whom to wake after the transaction is on the disk."""

    #: Flow runs that agents may claim, with from when (microseconds since the epoch).
    due: list[tuple[int, DueRun]] = field(default_factory=list)
    #: When flow runs are due whose flow has rules, microseconds since the epoch.
    ruled: list[int] = field(default_factory=list)
    #: Ids of flow runs that were claimed, or that agents may no longer claim.
    taken: set[str] = field(default_factory=set)
    #: Flow runs whose offer has ended because the agent takes none now.
    passed: list[Passed] = field(default_factory=list)
    #: Ids of agents that have a run to stop.
    agents: set[str] = field(default_factory=set)
    #: Flow runs that have ended, by id: id, name, state and state_message, as columns of flow_run in the dialect.
    ended: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Ids of flow runs whose row has changed, and of those that were deleted.
    runs: set[str] = field(default_factory=set)
    #: Ids of flow runs that have new lines in their logs.
    logged: set[str] = field(default_factory=set)
    #: Flow runs that have entered another state, for the metrics, and the number of new lines.
    moved: list[Moved] = field(default_factory=list)
    lines: int = 0
    #: Whether a schedule was switched on or changed.
    schedules: bool = False
    #: Whether rules of notifications have changed, or one waits for its delivery.
    notifications: bool = False

    def add(self, more: Effects) -> None:
        """Add the effects of another transaction."""
        self.due += more.due
        self.ruled += more.ruled
        self.passed += more.passed
        self.taken |= more.taken
        self.agents |= more.agents
        self.ended |= more.ended
        self.logged |= more.logged
        self.runs |= more.runs
        self.moved += more.moved
        self.lines += more.lines
        self.schedules = self.schedules or more.schedules
        self.notifications = self.notifications or more.notifications


@dataclass(frozen=True)
class Caller:
    """The client, as its request's headers identify it."""

    #: X-PREFECT-AGENT-ID; None if absent or not a UUID.
    agent_id: str | None = None
    #: X-PREFECT-CORE-VERSION.
    core_version: str | None = None
    #: X-PREFECT-TENANT-ID; None if absent or not a UUID.
    tenant_id: str | None = None
    #: Who asks, for people (flowherd/story/asked_by.py).
    by: str = ""
    #: The flow run whose token it has; None if it may ask for anything.
    run: RunToken | None = None


class Live(Protocol):
    """What operations need of what agents report while their runs go on (runs/live_board.py)."""

    def note(self, agent_id: str | None, report: Any) -> None:
        """Take an agent's report, whatever was sent."""

    def news(self, agent_id: str | None) -> LiveNews:
        """Return what an agent is asked now, beside runs."""

    def ask(self, agent_id: str, name: str | None, action: Action, deadline_s: float | None) -> str:
        """Ask an agent something, and return the order's id. Raises Refused."""


class _NoAgents:
    """For operations that the server carries out by itself: no agent has reported anything."""

    def note(self, agent_id: str | None, report: Any) -> None: ...

    def news(self, agent_id: str | None) -> LiveNews:
        return LiveNews()

    def ask(self, agent_id: str, name: str | None, action: Action, deadline_s: float | None) -> str:
        raise Refused("no agent is known")


@dataclass(frozen=True)
class Call:
    """One operation in its write transaction."""

    connection: Connection
    caller: Caller
    #: Time of the call, microseconds since the epoch; the same for all rows that it writes.
    now: int
    #: Number of runs that a schedule creates ahead.
    schedule_ahead: int
    #: Whether runs may be handed out; not for a moment after an older copy of the database was restored.
    offers_runs: bool = True
    effects: Effects = field(default_factory=Effects)
    offers: OfferBook = field(default_factory=OfferBook)
    live: Live = field(default_factory=_NoAgents)

"""What a look has to go by, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection, select

from flowherd.host_figures import HostHistory
from flowherd.notify.changes import Condition, Relief, Trouble
from flowherd.notify.kinds import Kind
from flowherd.notify.message import title
from flowherd.notify.rules import Subject
from flowherd.story.agent_report import read_agent_report
from flowherd.story.records import AgentView
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.stuck_runs import StuckRuns
from flowherd_server.store.microseconds import to_datetime
from flowherd_server.store.tables import AGENT


class Connected(Protocol):
    """Knows which agents are connected."""

    def is_connected(self, agent_id: str) -> bool:
        """Return whether an agent holds a connection."""


class Sources(Protocol):
    """What the server knows beside its database: that of ServerCore which is needed here."""

    live: LiveBoard
    stuck_runs: StuckRuns
    host: HostHistory

    @property
    def board(self) -> Connected:
        """Return what knows the connections."""


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a look has to go by."""

    connection: Connection
    sources: Sources
    #: The conditions that were found before, by key.
    known: Mapping[str, Condition]
    #: Microseconds since the epoch.
    now_us: int
    #: Returns the address of a run's page.
    run_link: Callable[[str], str]

    @property
    def now(self) -> datetime:
        """The time of the look."""
        return to_datetime(self.now_us)

    def keys_of(self, *kinds: Kind) -> set[str]:
        """Return the keys of the known conditions of these kinds."""
        return {key for key, condition in self.known.items() if condition.kind in kinds}

    def agents(self) -> list[AgentView]:
        """Return all agents, those that were heard of last first."""
        rows = self.connection.execute(select(AGENT).order_by(AGENT.c.last_queried.desc())).mappings()
        return [
            AgentView(
                id=row["id"],
                name=row["name"] or "",
                labels=tuple(row["labels"]),
                last_queried=None if row["last_queried"] is None else to_datetime(row["last_queried"]),
                connected=self.sources.board.is_connected(row["id"]),
                report=read_agent_report(row["report"]),
            )
            for row in rows
        ]


@dataclass
class Found:
    """What a look has found."""

    troubles: list[Trouble] = field(default_factory=list)
    reliefs: dict[str, Relief] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def trouble(self, key: str, kind: Kind, text: str, about: Subject, since: float | None, **fields: Any) -> None:
        """Note something that is not well; `since` is None if only the looks themselves can tell since when."""
        found = Trouble(key=key, kind=kind, title=title(text), about=about, since=since, fields=fields)
        self.troubles.append(found)

    def relief(self, key: str, text: str, about: Subject, **fields: Any) -> None:
        """Note something that is well, for the case that it was not before."""
        self.reliefs[key] = Relief(title=title(text), about=about, fields=fields)

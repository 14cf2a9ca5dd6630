"""What `flowherd top` knows at one moment: the runs in the one order, the agents, and the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from flowherd.states import SUCCESSFUL, TAKEN
from flowherd.story.order import Group


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the processes of a running run use. What is not known is None."""

    #: Share of one processor, percent.
    cpu_percent: float | None = None
    memory_bytes: int | None = None
    peak_bytes: int | None = None
    #: Memory limit of the run, bytes; None if it has none.
    limit_bytes: int | None = None
    #: Number of processes.
    processes: int | None = None
    #: Earlier values, oldest first.
    cpu_history: Sequence[float] = ()
    memory_history: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """A run, or failures of one flow in a row, of which it is the newest."""

    id: str
    name: str
    flow: str
    #: Value of a RunState.
    state: str
    group: Group
    #: Number of runs that the row stands for.
    count: int = 1
    agent: str = ""
    labels: Sequence[str] = ()
    due: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    #: How long runs of the flow usually take, seconds; None if that is not known.
    usual_s: float | None = None
    #: Why it waits, what follows it, or its message.
    says: str = ""
    #: The last line of its log, while it runs.
    last_line: str = ""
    #: Why it seems stuck; empty if it does not.
    stuck: str = ""
    figures: Figures | None = None
    #: Where its directory on this host is; empty if it is read from a server.
    directory: str = ""

    @property
    def is_live(self) -> bool:
        """Whether an agent has it and it has not ended."""
        return self.state in TAKEN


@dataclass(frozen=True, kw_only=True)
class AgentRow:
    """An agent."""

    name: str
    #: "connected", "away", "paused", "draining" or another word for why it claims nothing.
    state: str
    #: Why it claims nothing; empty if it claims.
    why: str = ""
    runs: int | None = None
    #: Maximum number of runs at the same time; None for no limit, or if that is not known.
    limit: int | None = None
    labels: Sequence[str] = ()
    #: When it was last heard of; None for an agent that answers now.
    heard: datetime | None = None
    load: float | None = None
    cpus: int | None = None
    version: str = ""
    host: str = ""
    unsent_bytes: int | None = None
    #: The most that it may have, bytes.
    unsent_most_bytes: int | None = None
    #: The directories whose disks are nearly full, and what is free there, bytes.
    low_disks: Sequence[tuple[str, int]] = ()

    @property
    def is_away(self) -> bool:
        """Whether nothing has been heard of it for too long."""
        return self.state == "away"


@dataclass(frozen=True, kw_only=True)
class HostFigures:
    """The host of the server, or of the agents, and its recent load."""

    load: float | None = None
    cpus: int | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    disk_free: int | None = None
    is_disk_low: bool = False
    lacks_memory: bool = False
    #: Share of the last minute in which something waited for cpu and io, and all for memory, percent.
    pressure: Mapping[str, float] = field(default_factory=dict)
    up_s: float | None = None
    load_history: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All that is known at one moment."""

    #: Name of the host, or the address of the server.
    source: str
    at: datetime
    rows: Sequence[RunRow] = ()
    #: Number of runs of a group that are not among `rows`.
    hidden: Mapping[Group, int] = field(default_factory=dict)
    agents: Sequence[AgentRow] = ()
    host: HostFigures | None = None
    #: What is said if there are no rows.
    nothing: str = "no runs are running or waiting, and none failed lately"

    def row(self, run_id: str | None) -> RunRow | None:
        """Return the row of a run; None if it has none."""
        return next((row for row in self.rows if row.id == run_id), None)

    def in_trouble(self) -> list[RunRow]:
        """Return the failures that no later good end of their flow has cleared."""
        cleared: dict[str, datetime] = {}
        for row in self.rows:
            if row.state in SUCCESSFUL and row.ended is not None:
                cleared[row.flow] = max(row.ended, cleared.get(row.flow, row.ended))
        seen: set[str] = set()
        found = []
        for row in self.rows:
            if row.group is Group.FAILED and row.ended is not None and row.flow not in seen:
                seen.add(row.flow)
                if row.ended >= cleared.get(row.flow, row.ended):
                    found.append(row)
        return found

"""The agents that a server knows, and which of them would take a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import AGENT_REPORTS, GraphQLTransport
from flowherd.backends.json_values import integer, mapping, sequence, text, text_or_none
from flowherd.client.queries import is_flowherd_server, select, state_in, understanding
from flowherd.states import TAKEN
from flowherd.story.agent_report import AgentReport, read_agent_report

#: An agent that asked for runs within this many seconds is alive; the dialect's own clients use the same number.
AGENT_ALIVE_S = 60.0
#: The same if the server knows which agents are connected: between two connections an agent deals with what woke it.
AGENT_BUSY_S = 5.0
_WAKE_TIMEOUT_S = 10.0


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


class KnownAgents:
    """The agents of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def all(self) -> list[AgentView]:
        """Return all agents that the server knows, also those that have stopped."""
        return select(self._transport, "agent", self._fields(), _agent)

    def with_runs(self) -> list[AgentView]:
        """Return all agents, with the number of runs that each has."""
        fields = self._fields()
        if self._transport.server_version is not None:
            claimed = arguments(where=state_in(TAKEN))
            fields += f" flow_runs_aggregate{claimed} {{ aggregate {{ count }} }}"
        return select(self._transport, "agent", fields, _agent)

    def _fields(self) -> str:
        own = " connected" if is_flowherd_server(self._transport) else ""
        reports = " report reported" if AGENT_REPORTS in self._transport.server_extensions else ""
        return "id name labels last_queried" + own + reports

    def wake(self) -> int:
        """Wake all connected agents and return their number; only flowherd's own server can do this."""
        answer = self._transport.post("/poke", timeout_s=_WAKE_TIMEOUT_S)
        with understanding(self._transport, "the answer to /poke"):
            return integer(answer["agents"])


def _agent(row: Mapping[str, Any]) -> AgentView:
    connected, claimed = row.get("connected"), row.get("flow_runs_aggregate")
    return AgentView(
        id=text(row["id"]),
        name=text_or_none(row["name"]) or "",
        labels=tuple(map(text, sequence(row["labels"]))),
        last_queried=parsed_time(row["last_queried"]),
        connected=connected if isinstance(connected, bool) else None,
        report=read_agent_report(row.get("report")),
        reported=parsed_time(row.get("reported")),
        runs=None if claimed is None else integer(mapping(mapping(claimed)["aggregate"])["count"]),
    )


def missing_labels(wanted: Collection[str], agents: Collection[AgentView]) -> list[str] | None:
    """Return the labels that the closest of `agents` lacks for a run that wants `wanted`; None if one takes the run.

    The dialect's rule: an agent needs all labels of a run, and a run without labels goes only to an agent without.
    An empty list means that the run has no labels and every agent has some.
    """
    lacking = [sorted(set(wanted) - set(agent.labels)) for agent in agents if wanted or not agent.labels]
    if any(not labels for labels in lacking):
        return None
    return min(lacking, key=len, default=sorted(wanted))

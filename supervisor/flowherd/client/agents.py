"""The agents that a server knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.backends.graphql.literals import arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import AGENT_REPORTS, GraphQLTransport
from flowherd.backends.json_values import integer, mapping, sequence, text, text_or_none
from flowherd.client.queries import is_flowherd_server, select, state_in, understanding
from flowherd.states import TAKEN
from flowherd.story.agent_report import read_agent_report
from flowherd.story.records import AgentView as AgentView

_WAKE_TIMEOUT_S = 10.0


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

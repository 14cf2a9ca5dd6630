"""Taking a flow away: its registration, or all its versions with their runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import integer, mapping, text
from flowherd.client.flows import RegisteredFlow
from flowherd.client.queries import select, state_in
from flowherd.errors import InvalidRequest
from flowherd.states import TAKEN, RunState

#: Which runs are cancelled with their flow; of those that a schedule has created the others are deleted.
_CANCELLED_WITH_ITS_FLOW = [
    {"state": {"_in": [RunState.SCHEDULED.value, RunState.QUEUED.value]}, "auto_scheduled": {"_eq": False}},
    {"state": {"_eq": RunState.RETRYING.value}},
]
#: Number of runs that a message counts; beyond that it says "at least".
_MOST_COUNTED = 10_000


@dataclass(frozen=True, kw_only=True)
class Unregistered:
    """A flow that is no longer registered."""

    flow: RegisteredFlow
    #: Number of its runs that were waiting and were cancelled; without those that its schedule had made.
    cancelled: int
    #: Ids of its runs that agents have; these go on.
    going_on: tuple[str, ...]


class FlowRemoval:
    """Takes flows away at one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def unregister(self, flow: RegisteredFlow) -> Unregistered:
        """End a flow's schedule and cancel its waiting runs, of all versions; what has run stays."""
        waiting = self._runs(flow, {"_or": _CANCELLED_WITH_ITS_FLOW})
        with_waiting = {run.flow_id for run in waiting}
        for version in self._versions(flow):
            if version.id == flow.id or version.id in with_waiting:
                self._transport.mutate("archive_flow", {"flow_id": version.id}, "success")
        going_on = self._runs(flow, state_in(TAKEN))
        return Unregistered(flow=flow, cancelled=len(waiting), going_on=tuple(run.id for run in going_on))

    def delete(self, flow: RegisteredFlow) -> int:
        """Delete all versions of a flow with their runs and logs and return the number of versions.

        Raises InvalidRequest if an agent has one of the runs.
        """
        self._refuse_if_taken(flow, "was not deleted")
        self.unregister(flow)  # from here on agents take none of its scheduled runs
        self._refuse_if_taken(flow, "was unregistered, but not deleted")
        versions = sorted(self._versions(flow), key=lambda version: version.number)
        # The newest one last: until then the flow is found again if this is interrupted.
        for version in versions:
            self._transport.mutate("delete_flow", {"flow_id": version.id}, "success")
        return len(versions)

    def _refuse_if_taken(self, flow: RegisteredFlow, what: str) -> None:
        going_on = self._runs(flow, state_in(TAKEN))
        if going_on:
            raise InvalidRequest(
                f"{flow.name} {what}, because {len(going_on)} of its runs are being run, such as {going_on[0].id}; "
                "cancel them first, or wait for their ends"
            )

    def count_runs(self, flow: RegisteredFlow) -> int:
        """Return the number of runs of all versions, at most 10,000."""
        return len(self._runs(flow, {}))

    def _versions(self, flow: RegisteredFlow) -> list[_Version]:
        return select(self._transport, "flow", "id version", _version, where=_same_flow(flow))

    def _runs(self, flow: RegisteredFlow, where: Mapping[str, Any]) -> list[_Run]:
        given = {"where": {**where, "flow": _same_flow(flow)}, "limit": _MOST_COUNTED}
        return select(self._transport, "flow_run", "id flow { id }", _run, **given)


@dataclass(frozen=True)
class _Version:
    id: str
    number: int


@dataclass(frozen=True)
class _Run:
    id: str
    flow_id: str


def _same_flow(flow: RegisteredFlow) -> dict[str, Any]:
    """Return the condition for all versions of a flow."""
    return {"name": {"_eq": flow.name}, "project": {"name": {"_eq": flow.project}}}


def _version(row: Mapping[str, Any]) -> _Version:
    return _Version(text(row["id"]), integer(row["version"]))


def _run(row: Mapping[str, Any]) -> _Run:
    return _Run(text(row["id"]), text(mapping(row["flow"])["id"]))

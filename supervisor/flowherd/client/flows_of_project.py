"""Making the flows of a project what a project file says, at flowherd's own server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.backends.graphql.transport import APPLY, GraphQLTransport
from flowherd.backends.json_values import integer, mappings_not_null, text
from flowherd.client.queries import is_flowherd_server, understanding


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One key of a flow that was not as the file says; None for a value that is not there."""

    key: str
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True)
class FlowChange:
    """What became of one flow."""

    name: str
    #: "registered", "changed", "taken over", "unregistered", "same", or "left": not in the file, and still registered.
    action: str
    #: Id and number of its version that is registered now.
    id: str
    version: int
    differences: Sequence[Difference]
    #: Whether its schedule is switched off.
    paused: bool
    #: Number of waiting runs that were cancelled, and of runs that agents have, of a flow that was unregistered.
    cancelled: int
    running: int


class FlowsOfProject:
    """The flows of the projects of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def can_apply(self) -> bool:
        """Ask whether the server can change all flows of a project in one transaction."""
        return is_flowherd_server(self._transport) and APPLY in self._transport.server_extensions

    def apply(
        self, project: str, documents: Sequence[Mapping[str, Any]], *, prune: bool, take_over: bool, dry_run: bool
    ) -> list[FlowChange]:
        """Register the flows of a project that are not registered as in their documents; all of them or none.

        With `prune` flows that an earlier `apply` of the project has registered, and that are not among these, are
        unregistered. With `take_over` flows are changed that were registered in another way; else they are refused.
        With `dry_run` nothing is changed; what would be is returned. If it raises BackendUnavailable, it is not known
        whether it was done; it can be repeated.
        """
        given = {
            "project": project,
            "flows": [dict(document) for document in documents],
            "prune": prune,
            "take_over": take_over,
            "dry_run": dry_run,
        }
        answer = self._transport.mutate("apply_flows", given, "changes")
        with understanding(self._transport, "the answer to apply_flows"):
            return [_change(row) for row in mappings_not_null(answer["changes"])]


def _change(row: Mapping[str, Any]) -> FlowChange:
    differences = [
        Difference(key=text(one["key"]), before=one["before"], after=one["after"])
        for one in mappings_not_null(row["differences"])
    ]
    return FlowChange(
        name=text(row["name"]),
        action=text(row["action"]),
        id=text(row["id"]),
        version=integer(row["version"]),
        differences=differences,
        paused=row["paused"] is True,
        cancelled=integer(row["cancelled"]),
        running=integer(row["running"]),
    )

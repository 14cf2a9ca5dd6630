"""Making the flows of a project what a project file says, at flowherd's own server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.backends.graphql.transport import APPLY, NOTIFICATIONS, GraphQLTransport
from flowherd.backends.json_values import integer, mapping, mappings_not_null, sequence, text
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


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What an `apply` has changed, or would change."""

    flows: Sequence[FlowChange]
    #: The project's rules of notifications, as they are written (flowherd/notify/rules.py), before and after.
    rules_before: Sequence[Mapping[str, Any]] = ()
    rules: Sequence[Mapping[str, Any]] = ()


class FlowsOfProject:
    """The flows of the projects of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def can_apply(self) -> bool:
        """Ask whether the server can change all flows of a project in one transaction."""
        return is_flowherd_server(self._transport) and APPLY in self._transport.server_extensions

    def takes_rules(self) -> bool:
        """Ask whether the server sends notifications by a project's rules."""
        return self.can_apply() and NOTIFICATIONS in self._transport.server_extensions

    def apply(
        self,
        project: str,
        documents: Sequence[Mapping[str, Any]],
        *,
        rules: Sequence[Mapping[str, Any]] = (),
        prune: bool,
        take_over: bool,
        dry_run: bool,
    ) -> Applied:
        """Register the flows of a project that are not registered as in their documents; all of them or none.

        With `prune` flows that an earlier `apply` of the project has registered, and that are not among these, are
        unregistered. With `take_over` flows are changed that were registered in another way; else they are refused. The
        project's rules of notifications become `rules`. With `dry_run` nothing is changed; what would be is returned.
        If it raises BackendUnavailable, it is not known whether it was done; it can be repeated.
        """
        given = {
            "project": project,
            "flows": [dict(document) for document in documents],
            "prune": prune,
            "take_over": take_over,
            "dry_run": dry_run,
        }
        takes_rules = self.takes_rules()
        if takes_rules:
            given["notify"] = [dict(rule) for rule in rules]
        answer = self._transport.mutate("apply_flows", given, "changes notify" if takes_rules else "changes")
        with understanding(self._transport, "the answer to apply_flows"):
            flows = [_change(row) for row in mappings_not_null(answer["changes"])]
            if not takes_rules:
                return Applied(flows=flows)
            notify = mapping(answer["notify"])
            before, after = (list(map(_rule, mappings_not_null(notify[name]))) for name in ("before", "after"))
            return Applied(flows=flows, rules_before=before, rules=after)


def _rule(row: Mapping[str, Any]) -> dict[str, Any]:
    lists = {name: list(map(text, sequence(row[name]))) for name in ("on", "flows", "labels", "to")}
    return {**lists, "every_failure": row["every_failure"] is True}


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

"""Projects and registered flows at a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import integer, mapping_or_none, mappings, text, text_or_none
from flowherd.client.queries import create, select
from flowherd.errors import BackendRefused, BackendUnavailable
from flowherd.parameter_names import parameter_names

#: Part of the refusal to create a project whose name exists.
_DUPLICATE_TEXT = "Uniqueness violation"


@dataclass(frozen=True, kw_only=True)
class RegisteredFlow:
    """A flow as the server stores it."""

    id: str
    name: str
    version: int
    project: str
    created: datetime | None = None
    #: Default values by parameter name; parameters without a default are missing.
    defaults: Mapping[str, Any] = field(default_factory=dict)
    #: Names of all parameters that it takes; None if they are not known, or it takes any.
    parameters: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class FlowDefinition:
    """What a run of a flow would be."""

    storage: Mapping[str, Any]
    run_config: Mapping[str, Any] | None
    #: Default values by parameter name.
    defaults: Mapping[str, Any]


class Flows:
    """The flows of one server. Every method raises BackendUnavailable or BackendRefused."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def ensure_project(self, name: str) -> str:
        """Return the id of the project with this name; create the project if it is missing."""
        found = self._project_id(name)
        if found:
            return found
        tenants = select(self._transport, "tenant", "id", _id)
        if not tenants:
            raise BackendRefused(f"{self._transport.origin} has no tenant; create one first")
        values = {"tenant_id": tenants[0], "name": name, "description": None}
        try:
            return create(self._transport, "create_project", values)
        except BackendRefused as error:  # another client may have created it in the meantime
            found = self._project_id(name) if _DUPLICATE_TEXT in str(error) else None
            if found is None:
                raise
            return found

    def register(self, project_id: str, document: Mapping[str, Any]) -> RegisteredFlow:
        """Register a flow document as the newest version of the flow with its name."""
        flow_id = create(
            self._transport,
            "create_flow",
            {
                "project_id": project_id,
                "serialized_flow": dict(document),
                "set_schedule_active": document.get("schedule") is not None,
                "version_group_id": None,
            },
        )
        found = self._select(where={"id": {"_eq": flow_id}})
        if not found:
            raise BackendUnavailable(f"{self._transport.origin} registered flow {flow_id} but does not list it")
        return found[0]

    def find(
        self, name: str | None = None, project: str | None = None, *, unregistered: bool = False
    ) -> list[RegisteredFlow]:
        """Return the registered flows, the newest first; only those with this name, of this project.

        With `unregistered` also the versions that were replaced and the flows that are no longer registered.
        """
        where: dict[str, Any] = {} if unregistered else {"archived": {"_eq": False}}
        if name is not None:
            where["name"] = {"_eq": name}
        if project is not None:
            where["project"] = {"name": {"_eq": project}}
        return self._select(where=where, order_by={"created": Word("desc")})

    def definition(self, flow_id: str) -> FlowDefinition:
        """Return what a run of the flow would be. Raises BackendUnavailable also if the flow no longer exists."""
        fields = "storage run_config parameters flow_group { run_config default_parameters }"
        found = select(self._transport, "flow", fields, _definition, where={"id": {"_eq": flow_id}})
        if not found:
            raise BackendUnavailable(f"{self._transport.origin} no longer has the flow {flow_id}")
        return found[0]

    def _project_id(self, name: str) -> str | None:
        found = select(self._transport, "project", "id", _id, where={"name": {"_eq": name}})
        return found[0] if found else None

    def _select(self, **given: Any) -> list[RegisteredFlow]:
        fields = "id name version created parameters storage project { name }"
        return select(self._transport, "flow", fields, _flow, **given)


def falsy_defaults(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults that a client must send, because servers of the dialect omit them: 0, false, empty ones."""
    return {name: value for name, value in parameters.items() if not value and value is not None}


def _id(row: Mapping[str, Any]) -> str:
    return text(row["id"])


def _definition(row: Mapping[str, Any]) -> FlowDefinition:
    group = mapping_or_none(row["flow_group"]) or {}
    return FlowDefinition(
        storage=mapping_or_none(row["storage"]) or {},
        run_config=mapping_or_none(group.get("run_config")) or mapping_or_none(row["run_config"]),
        defaults={**_defaults(mappings(row["parameters"])), **(mapping_or_none(group.get("default_parameters")) or {})},
    )


def _defaults(parameters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {text(one["name"]): one["default"] for one in parameters if one.get("default") is not None}


def _flow(row: Mapping[str, Any]) -> RegisteredFlow:
    project = mapping_or_none(row["project"])
    parameters = mappings(row["parameters"])
    return RegisteredFlow(
        id=_id(row),
        name=text(row["name"]),
        version=integer(row["version"]),
        project="" if project is None else text_or_none(project["name"]) or "",
        created=parsed_time(row["created"]),
        defaults=_defaults(parameters),
        parameters=parameter_names(row["storage"], parameters),
    )

"""Settings that agents are told to look up by an id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import RowMapping, delete, insert, select, update

from flowherd_server.errors import not_found
from flowherd_server.graphql.operations import Call, Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_document import optional_mapping
from flowherd_server.mutations.tenants import tenant_of
from flowherd_server.store.tables import AGENT, AGENT_CONFIG


def agent_config_row(call: Call, agent_config_id: str) -> RowMapping:
    """The configuration. Raises Refused when there is none."""
    query = select(AGENT_CONFIG).where(AGENT_CONFIG.c.id == agent_config_id)
    row = call.connection.execute(query).mappings().first()
    if row is None:
        raise not_found("agent configuration", agent_config_id)
    return row


def _create(call: Call, given: Input) -> Mapping[str, Any]:
    row = {
        "id": str(uuid4()),
        "tenant_id": tenant_of(call.connection, call.caller, given.get("tenant_id")),
        "name": given.get("name"),
        "settings": optional_mapping("settings", given.get("settings")) or {},
        "created": call.now,
        "updated": call.now,
    }
    call.connection.execute(insert(AGENT_CONFIG), row)
    return {"id": row["id"]}


def _update(call: Call, given: Input) -> Mapping[str, Any]:
    """What is not given stays."""
    row = agent_config_row(call, given["agent_config_id"])
    changed: dict[str, Any] = {"updated": call.now}
    if given.get("name") is not None:
        changed["name"] = given["name"]
    if given.get("settings") is not None:
        changed["settings"] = optional_mapping("settings", given["settings"])
    call.connection.execute(update(AGENT_CONFIG).where(AGENT_CONFIG.c.id == row["id"]), changed)
    return {"success": True}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    row = agent_config_row(call, given["agent_config_id"])
    of_agents = update(AGENT).where(AGENT.c.agent_config_id == row["id"])
    call.connection.execute(of_agents, {"agent_config_id": None})
    call.connection.execute(delete(AGENT_CONFIG).where(AGENT_CONFIG.c.id == row["id"]))
    return {"success": True}


_ID = GraphQLNonNull(UUID_INPUT)

OPERATIONS = (
    Operation(
        name="create_agent_config",
        arguments={"tenant_id": UUID_INPUT, "name": GraphQLString, "settings": JSON_INPUT},
        answer={"id": UUID_INPUT},
        handle=_create,
    ),
    Operation(
        name="update_agent_config",
        arguments={"agent_config_id": _ID, "name": GraphQLString, "settings": JSON_INPUT},
        answer={"success": GraphQLBoolean},
        handle=_update,
    ),
    Operation(
        name="delete_agent_config",
        arguments={"agent_config_id": _ID},
        answer={"success": GraphQLBoolean},
        handle=_delete,
    ),
)

"""Agent configurations: settings that an agent reads by the id that it was started with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import insert, update

from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_document import optional_mapping
from flowherd_server.store.row_lookup import delete_row, row_by_id, tenant_id_of
from flowherd_server.store.tables import AGENT, AGENT_CONFIG


def _create(call: Call, given: Input) -> Mapping[str, Any]:
    row = {
        "id": str(uuid4()),
        "tenant_id": tenant_id_of(call.connection, call.caller, given.get("tenant_id")),
        "name": given.get("name"),
        "settings": optional_mapping("settings", given.get("settings")) or {},
        "created": call.now,
        "updated": call.now,
    }
    call.connection.execute(insert(AGENT_CONFIG), row)
    return {"id": row["id"]}


def _update(call: Call, given: Input) -> Mapping[str, Any]:
    """Change what is given; the rest stays."""
    row = row_by_id(call.connection, AGENT_CONFIG, given["agent_config_id"])
    changed: dict[str, Any] = {"updated": call.now}
    if given.get("name") is not None:
        changed["name"] = given["name"]
    if given.get("settings") is not None:
        changed["settings"] = optional_mapping("settings", given["settings"])
    call.connection.execute(update(AGENT_CONFIG).where(AGENT_CONFIG.c.id == row["id"]), changed)
    return {"success": True}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    delete_row(call.connection, AGENT_CONFIG, given["agent_config_id"])
    agents = update(AGENT).where(AGENT.c.agent_config_id == given["agent_config_id"])
    call.connection.execute(agents, {"agent_config_id": None})
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

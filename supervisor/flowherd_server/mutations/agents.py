"""Agents: registration, deletion, and the heartbeats of the runs that they keep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLInputType, GraphQLList, GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import Table, insert, select, update

from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.runs.labels import normal_labels
from flowherd_server.store.row_lookup import delete_row, row_by_id, tenant_id_of
from flowherd_server.store.tables import AGENT, AGENT_CONFIG, FLOW_RUN, TASK_RUN


def _register_agent(call: Call, given: Input) -> Mapping[str, Any]:
    config_id = given.get("agent_config_id")
    if config_id is not None:
        row_by_id(call.connection, AGENT_CONFIG, config_id)
    identity = {
        "tenant_id": tenant_id_of(call.connection, call.caller, given.get("tenant_id")),
        "type": given["type"],
        "name": given.get("name"),
        "labels": normal_labels(given.get("labels") or ()),
        "core_version": call.caller.core_version,
    }
    # Name and version may be null, which `==` does not match. Labels are stored sorted, so equal sets are equal JSON.
    same = [AGENT.c[key].is_not_distinct_from(value) for key, value in identity.items()]
    agent_id = call.connection.execute(select(AGENT.c.id).where(*same).limit(1)).scalar()
    if agent_id is None:
        agent_id = str(uuid4())
        row = {"id": agent_id, **identity, "last_queried": call.now, "created": call.now}
        call.connection.execute(insert(AGENT), {**row, "agent_config_id": config_id})
    else:
        changed = {"last_queried": call.now, "agent_config_id": config_id}
        call.connection.execute(update(AGENT).where(AGENT.c.id == agent_id), changed)
    return {"id": agent_id}


def _delete_agent(call: Call, given: Input) -> Mapping[str, Any]:
    """Remove the agent from the list; its runs keep its id."""
    delete_row(call.connection, AGENT, given["agent_id"])
    return {"success": True}


def _heartbeat(table: Table, key: str) -> Operation:
    """Return the heartbeat operation of a table of runs; it succeeds for unknown ids too."""

    def beat(call: Call, given: Input) -> Mapping[str, Any]:
        call.connection.execute(update(table).where(table.c.id == given[key]), {"heartbeat": call.now})
        return {"success": True}

    arguments: dict[str, GraphQLInputType] = {key: GraphQLNonNull(UUID_INPUT)}
    return Operation(
        name=f"update_{table.name}_heartbeat",
        arguments=arguments,
        answer={"success": GraphQLBoolean},
        handle=beat,
        durable=False,
    )


OPERATIONS = (
    Operation(
        name="register_agent",
        arguments={
            "type": GraphQLNonNull(GraphQLString),
            "name": GraphQLString,
            "labels": GraphQLList(GraphQLNonNull(GraphQLString)),
            "tenant_id": UUID_INPUT,
            "agent_config_id": UUID_INPUT,
        },
        answer={"id": UUID_INPUT},
        handle=_register_agent,
    ),
    Operation(
        name="delete_agent",
        arguments={"agent_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete_agent,
    ),
    _heartbeat(FLOW_RUN, "flow_run_id"),
    _heartbeat(TASK_RUN, "task_run_id"),
)

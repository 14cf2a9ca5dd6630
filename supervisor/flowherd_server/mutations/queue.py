"""get_runs_in_queue: which runs an agent may claim now. It reserves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull
from graphql.type import GraphQLString

from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import TIME_INPUT, UUID_INPUT
from flowherd_server.mutations.agents import note_agent
from flowherd_server.runs.due_runs import due_flow_runs
from flowherd_server.store.row_lookup import tenant_id_of

MAX_IDS = 100


def _get_runs_in_queue(call: Call, given: Input) -> Mapping[str, Any]:
    note_agent(call)
    before = call.now if given.get("before") is None else given["before"]
    tenant_id = tenant_id_of(call.connection, call.caller, given.get("tenant_id"))
    return {"flow_run_ids": due_flow_runs(call.connection, tenant_id, given.get("labels") or (), before, MAX_IDS)}


OPERATIONS = (
    Operation(
        name="get_runs_in_queue",
        arguments={
            "before": TIME_INPUT,
            "labels": GraphQLList(GraphQLNonNull(GraphQLString)),
            "tenant_id": UUID_INPUT,
        },
        answer={"flow_run_ids": GraphQLList(GraphQLNonNull(UUID_INPUT))},
        handle=_get_runs_in_queue,
        # It only writes when the agent made its last request.
        durable=False,
    ),
)

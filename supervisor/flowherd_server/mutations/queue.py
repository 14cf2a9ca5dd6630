"""get_runs_in_queue: which runs an agent may claim now. It reserves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull
from graphql.type import GraphQLString
from sqlalchemy import and_, or_, select

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import TIME_INPUT, UUID_INPUT
from flowherd_server.mutations.agents import note_agent
from flowherd_server.runs.labels import labels_match_sql
from flowherd_server.store.row_lookup import tenant_id_of
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN

MAX_IDS = 100
_CLAIMABLE_NAMES = sorted(CLAIMABLE)


def _get_runs_in_queue(call: Call, given: Input) -> Mapping[str, Any]:
    note_agent(call)
    before = call.now if given.get("before") is None else given["before"]
    waiting_task = (
        select(TASK_RUN.c.id)
        .where(
            TASK_RUN.c.flow_run_id == FLOW_RUN.c.id,
            TASK_RUN.c.state.in_(_CLAIMABLE_NAMES),
            TASK_RUN.c.state_start_time <= before,
        )
        .exists()
    )
    due = and_(FLOW_RUN.c.state.in_(_CLAIMABLE_NAMES), FLOW_RUN.c.state_start_time <= before)
    # A flow run whose task run has waited for a long retry must be started again.
    again = and_(FLOW_RUN.c.state == RunState.RUNNING.value, waiting_task)
    # Labels are matched before the limit, so that runs for other agents cannot crowd out those for this agent.
    query = (
        select(FLOW_RUN.c.id)
        .where(
            FLOW_RUN.c.tenant_id == tenant_id_of(call.connection, call.caller, given.get("tenant_id")),
            or_(due, again),
            labels_match_sql(FLOW_RUN.c.labels, given.get("labels") or ()),
        )
        .order_by(FLOW_RUN.c.state_start_time.asc().nulls_last(), FLOW_RUN.c.seq)
        .limit(MAX_IDS)
    )
    return {"flow_run_ids": list(call.connection.execute(query).scalars())}


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

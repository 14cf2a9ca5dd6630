"""retry_flow_runs: new runs that repeat earlier ones, and remember which; an answer for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull, GraphQLObjectType
from graphql.type import GraphQLBoolean, GraphQLField, GraphQLString

from flowherd.states import FINISHED, RunState
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.mutations.flow_runs import live_flow
from flowherd_server.mutations.several_runs import not_too_many
from flowherd_server.runs.create_flow_runs import FlowRunRequest, create_flow_run, default_labels, default_run_config
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN


def _retry_flow_runs(call: Call, given: Input) -> Mapping[str, Any]:
    latest = bool(given.get("latest"))
    return {"flow_runs": [_retried(call, run_id, latest) for run_id in dict.fromkeys(given["flow_run_ids"])]}


def _retried(call: Call, run_id: str, latest: bool) -> Mapping[str, Any]:
    """Repeat one run. A refusal is raised before anything is created."""
    try:
        return {"flow_run_id": run_id, "id": _retry(call, run_id, latest), "message": None}
    except Refused as refusal:
        return {"flow_run_id": run_id, "id": None, "message": str(refusal)}


def _retry(call: Call, run_id: str, latest: bool) -> str:
    run = row_by_id(call.connection, FLOW_RUN, run_id)
    if RunState(run["state"]) not in FINISHED:
        raise Refused(f"flow run {run['id']} is {run['state']}; only a run that has ended can be repeated")
    flow: StoredRow = row_by_id(call.connection, FLOW, run["flow_id"], ("serialized_flow",))
    live = live_flow(call, flow["version_group_id"])
    if live is None:
        raise Refused(f"flow {flow['name']} is no longer registered; register it again, then repeat the run")
    labels, run_config = run["labels"], run["run_config"]
    if latest and live["id"] != flow["id"]:
        labels, run_config = _chosen_for_the_run(call, flow, run)
        flow = live
    wanted = FlowRunRequest(
        start_us=call.now,
        parameters=run["parameters"],
        context=run["context"],
        labels=labels,
        run_config=run_config,
        repeats=run["id"],
    )
    return create_flow_run(call, flow, wanted)


def _chosen_for_the_run(call: Call, flow: StoredRow, run: StoredRow) -> tuple[Any, Any]:
    """Return labels and run config of a run, each None if they are only what its version of the flow has."""
    group = row_by_id(call.connection, FLOW_GROUP, flow["flow_group_id"])
    labels = None if run["labels"] == default_labels(flow, group) else run["labels"]
    run_config = None if run["run_config"] == default_run_config(flow, group) else run["run_config"]
    return labels, run_config


_ANSWER = GraphQLObjectType(
    "retry_flow_runs_answer",
    {
        "flow_run_id": GraphQLField(UUID_INPUT),
        # Id of the new run; null if there is none.
        "id": GraphQLField(UUID_INPUT),
        # Why there is none.
        "message": GraphQLField(GraphQLString),
    },
)

OPERATIONS = (
    Operation(
        name="retry_flow_runs",
        arguments={"flow_run_ids": GraphQLNonNull(GraphQLList(GraphQLNonNull(UUID_INPUT))), "latest": GraphQLBoolean},
        answer={"flow_runs": GraphQLList(GraphQLNonNull(_ANSWER))},
        handle=_retry_flow_runs,
        prepare=not_too_many,
    ),
)

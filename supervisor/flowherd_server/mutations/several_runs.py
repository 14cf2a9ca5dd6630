"""cancel_flow_runs and delete_flow_runs: one request and one transaction for many runs, and an answer for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphql import GraphQLList, GraphQLNonNull, GraphQLObjectType
from graphql.type import GraphQLBoolean, GraphQLField, GraphQLString

from flowherd.states import FINISHED, TAKEN, RunState
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.mutations.cancel import cancel_run
from flowherd_server.mutations.flow_runs import delete_run
from flowherd_server.store.plain import StoredRow, find_row
from flowherd_server.store.tables import FLOW_RUN

#: Maximum number of runs in one request: others wait for its transaction.
MAX_RUNS = 100


def not_too_many(given: Input) -> Input:
    """Return the input. Raises Refused if it names too many runs."""
    if len(given["flow_run_ids"]) > MAX_RUNS:
        raise Refused(f"{len(given['flow_run_ids'])} flow runs in one request; {MAX_RUNS} are allowed")
    return given


def _each(act: Callable[[Call, StoredRow], Mapping[str, Any]]) -> Callable[[Call, Input], Mapping[str, Any]]:
    def handle(call: Call, given: Input) -> Mapping[str, Any]:
        answers = []
        for run_id in dict.fromkeys(given["flow_run_ids"]):
            run = find_row(call.connection, FLOW_RUN, run_id)
            answers.append({"flow_run_id": run_id, "state": None, **({} if run is None else act(call, run))})
        return {"flow_runs": answers}

    return handle


def _cancel(call: Call, run: StoredRow) -> Mapping[str, Any]:
    return {"state": cancel_run(call, run), "done": RunState(run["state"]) not in FINISHED}


def _delete(call: Call, run: StoredRow) -> Mapping[str, Any]:
    """Delete the run unless an agent has taken it and it has not ended."""
    if RunState(run["state"]) in TAKEN:
        return {"state": run["state"], "done": False}
    delete_run(call, run)
    return {"state": run["state"], "done": True}


_ANSWER = GraphQLObjectType(
    "several_runs_answer",
    {
        "flow_run_id": GraphQLField(UUID_INPUT),
        # The state afterwards, or in which it was deleted; null if there is no such run.
        "state": GraphQLField(GraphQLString),
        # Whether it was changed.
        "done": GraphQLField(GraphQLNonNull(GraphQLBoolean), resolve=lambda answer, _info: answer.get("done", False)),
    },
)


def _operation(name: str, act: Callable[[Call, StoredRow], Mapping[str, Any]]) -> Operation:
    return Operation(
        name=name,
        arguments={"flow_run_ids": GraphQLNonNull(GraphQLList(GraphQLNonNull(UUID_INPUT)))},
        answer={"flow_runs": GraphQLList(GraphQLNonNull(_ANSWER))},
        handle=_each(act),
        prepare=not_too_many,
    )


OPERATIONS = (_operation("cancel_flow_runs", _cancel), _operation("delete_flow_runs", _delete))

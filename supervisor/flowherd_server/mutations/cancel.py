"""cancel_flow_run: requesting the end of a flow run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLString

from flowherd.states import FINISHED, Event, RunState, after
from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.runs.flow_run_states import enter_flow_run_state
from flowherd_server.runs.new_state import plain_state
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW_RUN


def cancel_run(call: Call, run: StoredRow) -> str:
    """Ask for the end of a run and return the state that it is in then; a finished one stays as it is."""
    state = RunState(run["state"])
    if state in FINISHED:
        return state.value
    target = after(state, Event.REQUEST_CANCEL)
    if target is not state:
        marks = {"flowherd": {"by": call.caller.by}} if call.caller.by else {}
        enter_flow_run_state(call, run, plain_state(target, f"{target} on request", call.now, context=marks))
    if run["agent_id"] is not None:
        call.effects.agents.add(run["agent_id"])
    return target.value


def _cancel_flow_run(call: Call, given: Input) -> Mapping[str, Any]:
    return {"state": cancel_run(call, row_by_id(call.connection, FLOW_RUN, given["flow_run_id"]))}


OPERATIONS = (
    Operation(
        name="cancel_flow_run",
        arguments={"flow_run_id": GraphQLNonNull(UUID_INPUT)},
        answer={"state": GraphQLString},
        handle=_cancel_flow_run,
    ),
)

"""The one place that puts a flow run into a state: the new row in its history, and the run's columns that follow it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.errors import not_found
from flowherd_server.graphql.operations import Call
from flowherd_server.runs.new_states import NewState, state_columns, state_row, times_of_run
from flowherd_server.runs.task_state_changes import cancel_task_runs
from flowherd_server.store.tables import FLOW_RUN, FLOW_RUN_STATE

_HEARTBEAT_STATES = frozenset({RunState.SUBMITTED, RunState.RUNNING})
_CANCEL_STATES = frozenset({RunState.CANCELLING, RunState.CANCELLED})


def flow_run_row(call: Call, flow_run_id: str) -> RowMapping:
    """The flow run. Raises Refused when there is none."""
    row = call.connection.execute(select(FLOW_RUN).where(FLOW_RUN.c.id == flow_run_id)).mappings().first()
    if row is None:
        raise not_found("flow run", flow_run_id)
    return row


def enter_state(call: Call, run: RowMapping, state: NewState) -> None:
    """Put `run` into `state`; whether that may be was decided before, by flowherd.states."""
    version = run["version"] + 1
    call.connection.execute(insert(FLOW_RUN_STATE), state_row(call, "flow_run_id", run["id"], version, state))
    changed = {**state_columns(call, version, state), **times_of_run(run, state), **_who(call, run, state)}
    if state.type in _HEARTBEAT_STATES:
        changed["heartbeat"] = call.now
    call.connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == run["id"]), changed)
    if state.type is RunState.CANCELLED:
        # The flow's process does not do this; the dialect expects it of the server.
        cancel_task_runs(call, run["id"], state.at_us)
    _tell(call, run, state)


def _who(call: Call, run: RowMapping, state: NewState) -> dict[str, Any]:
    """Whose run it is from now on."""
    if state.type is RunState.SUBMITTED:
        return {"claim": state.claim, "agent_id": call.caller.agent_id or run["agent_id"]}
    if state.type in CLAIMABLE:
        return {"claim": None}
    return {} if state.claim is None else {"claim": state.claim}


def _tell(call: Call, run: RowMapping, state: NewState) -> None:
    if state.type in CLAIMABLE and state.start_us is not None:
        call.effects.due.append((state.start_us, run["labels"]))
    if state.type in _CANCEL_STATES and run["agent_id"] not in (None, call.caller.agent_id):
        call.effects.agents.add(run["agent_id"])

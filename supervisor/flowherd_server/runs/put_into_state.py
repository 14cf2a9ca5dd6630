"""Storing the new state of a flow run, with all that follows from it within the run itself.

Only for flow_run_states.py and the rules of flows; everything else enters a state through the former.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd_server.call import Call, Moved
from flowherd_server.offers import DueRun
from flowherd_server.runs.new_state import NewState
from flowherd_server.runs.state_history import FLOW_RUNS, history_row, latest_state, record_state
from flowherd_server.runs.task_run_states import cancel_task_runs
from flowherd_server.store.plain import StoredRow, insert_row
from flowherd_server.store.tables import FLOW_RUN, RUN_STATE

_HEARTBEAT_STATES = frozenset({RunState.SUBMITTED, RunState.RUNNING})
_CANCEL_STATES = frozenset({RunState.CANCELLING, RunState.CANCELLED})


def put_into_state(call: Call, run: StoredRow, state: NewState, **columns: Any) -> None:
    """Put `run` into `state`, and set `columns` with it. The caller has checked that this is allowed."""
    changed = {**_owner(call, run, state), **columns}
    if state.type in _HEARTBEAT_STATES:
        changed["heartbeat"] = call.now
    record_state(call, FLOW_RUNS, run, state, changed)
    call.effects.moved.append(Moved(run, state.type, state.at_us, state.serialized))
    if state.type is RunState.CANCELLED:
        # The dialect leaves this to the server; the flow's process does not do it.
        cancel_task_runs(call, run["id"], state.at_us)
    _note_effects(call, run, state)


def store_first_state(call: Call, run: Mapping[str, Any], state: NewState) -> None:
    """Store a new run, which begins in `state` with version 1."""
    row = {**run, **latest_state(call, 1, state)}
    number = insert_row(call.connection, FLOW_RUN, row)
    insert_row(call.connection, RUN_STATE, history_row(call, FLOW_RUNS, {"seq": number}, 1, state))
    _note_effects(call, {**row, "version": 0, "agent_id": None}, state)


def _owner(call: Call, run: StoredRow, state: NewState) -> dict[str, Any]:
    """Return the columns that say who has claimed the run."""
    if state.type is RunState.SUBMITTED:
        return {"claim": state.claim, "agent_id": call.caller.agent_id or run["agent_id"]}
    if state.type in CLAIMABLE:
        return {"claim": None}
    return {} if state.claim is None else {"claim": state.claim}


def _note_effects(call: Call, run: StoredRow, state: NewState) -> None:
    call.effects.runs.add(run["id"])
    if state.type in FINISHED:
        told = {"id": run["id"], "name": run["name"], "state": state.type.value, "state_message": state.message}
        call.effects.ended[run["id"]] = told
    else:
        call.effects.ended.pop(run["id"], None)
    if state.type not in CLAIMABLE or state.start_us is None:
        call.effects.taken.add(run["id"])
    else:
        call.effects.due.append((state.start_us, DueRun(run["id"], run["version"] + 1, run["labels"])))
        # One that is due now and no schedule's is decided about in this transaction.
        if run.get("rules") is not None and (run["auto_scheduled"] or state.start_us > call.now):
            call.effects.ruled.append(state.start_us)
    if state.type in _CANCEL_STATES and run["agent_id"] not in (None, call.caller.agent_id):
        call.effects.agents.add(run["agent_id"])

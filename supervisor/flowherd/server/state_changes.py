"""The one place that puts a flow run into a state: the new row in its history, and the run's columns that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import RowMapping, insert, select, update

from flowherd.server.operations import Call
from flowherd.server.refusals import not_found
from flowherd.server.tables import FLOW_RUN, FLOW_RUN_STATE, TASK_RUN, TASK_RUN_STATE
from flowherd.states import CLAIMABLE, FINISHED, RunState

_FINISHED_NAMES = sorted(FINISHED)
_HEARTBEAT_STATES = frozenset({RunState.SUBMITTED, RunState.RUNNING})
_CANCEL_STATES = frozenset({RunState.CANCELLING, RunState.CANCELLED})


@dataclass(frozen=True, kw_only=True)
class NewState:
    """A state to be entered."""

    type: RunState
    serialized: Mapping[str, Any]
    #: When it came about.
    at_us: int
    #: For states that wait for a time.
    start_us: int | None = None
    #: Who says so; None where nobody said.
    claim: str | None = None

    @property
    def message(self) -> str | None:
        """What it says to people."""
        message = self.serialized.get("message")
        return None if message is None else str(message)


def plain_state(kind: RunState, message: str, at_us: int, start_us: int | None = None, **more: Any) -> NewState:
    """A state that the server itself brings about."""
    serialized = {"type": kind.value, "message": message, "context": {}, "cached_inputs": {}, **more}
    return NewState(type=kind, serialized=serialized, at_us=at_us, start_us=start_us)


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
    changed = {**_state_columns(call, version, state), **_times_of_run(run, state), **_who(call, run, state)}
    if state.type in _HEARTBEAT_STATES:
        changed["heartbeat"] = call.now
    call.connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == run["id"]), changed)
    if state.type is RunState.CANCELLED:
        _cancel_task_runs(call, run["id"], state)
    _tell(call, run, state)


def state_row(call: Call, owner_column: str, owner_id: str, version: int, state: NewState) -> dict[str, Any]:
    """A row of a history of states."""
    return {
        "id": str(uuid4()),
        owner_column: owner_id,
        "version": version,
        "state": state.type.value,
        "timestamp": state.at_us,
        "start_time": state.start_us,
        "message": state.message,
        "serialized_state": state.serialized,
        "created": call.now,
    }


def _state_columns(call: Call, version: int, state: NewState) -> dict[str, Any]:
    return {
        "version": version,
        "state": state.type.value,
        "serialized_state": state.serialized,
        "state_message": state.message,
        "state_timestamp": state.at_us,
        "state_start_time": state.start_us,
        "updated": call.now,
    }


def _times_of_run(run: RowMapping, state: NewState) -> dict[str, Any]:
    """The first Running is the start; the end is known only while the run is finished."""
    times: dict[str, Any] = {"end_time": state.at_us if state.type in FINISHED else None}
    if state.type is RunState.RUNNING:
        times["start_time"] = min(state.at_us, run["start_time"] or state.at_us)
    if state.type in FINISHED and run["start_time"] is not None:
        # Two hosts' clocks may disagree; a run does not end before it began.
        times["end_time"] = max(state.at_us, run["start_time"])
    return times


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


def _cancel_task_runs(call: Call, flow_run_id: str, state: NewState) -> None:
    """The flow's process does not do this; the dialect expects it of the server."""
    unfinished = select(TASK_RUN.c.id, TASK_RUN.c.version).where(
        TASK_RUN.c.flow_run_id == flow_run_id, TASK_RUN.c.state.not_in(_FINISHED_NAMES)
    )
    cancelled = plain_state(RunState.CANCELLED, "its flow run was cancelled", state.at_us)
    for task_run_id, version in call.connection.execute(unfinished).all():
        row = state_row(call, "task_run_id", task_run_id, version + 1, cancelled)
        call.connection.execute(insert(TASK_RUN_STATE), row)
        changed = {**_state_columns(call, version + 1, cancelled), "end_time": state.at_us}
        call.connection.execute(update(TASK_RUN).where(TASK_RUN.c.id == task_run_id), changed)

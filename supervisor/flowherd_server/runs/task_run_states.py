"""Putting a task run into a state; every change of a task run's state goes through here.

There is no table of allowed changes: the flow's own engine decides them, and in its normal course takes a task run from
a finished state back to an unfinished one (retries, loops, cached results).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, update

from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd_server.call import Call
from flowherd_server.offers import DueRun
from flowherd_server.runs.new_state import NewState, plain_state
from flowherd_server.runs.state_history import TASK_RUNS, record_state
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN

_FINISHED_NAMES = sorted(FINISHED)
#: States that refresh the flow run's heartbeat, which may be days old after a long retry or a pause.
_SIGNS_OF_LIFE = frozenset({RunState.SUBMITTED, RunState.RUNNING})
#: Delay after a waiting task run's time before agents get its flow run again, as in the dialect's own agents: until
#: then a process that is still alive starts the next try by itself.
HANDED_OUT_AFTER_US = 3 * SECOND_US


def enter_task_run_state(call: Call, task_run: StoredRow, state: NewState) -> None:
    """Put `task_run` into `state`."""
    changed = _owner(state)
    if state.type is RunState.RUNNING:
        changed["heartbeat"] = call.now
    record_state(call, TASK_RUNS, task_run, state, changed)
    if state.type in _SIGNS_OF_LIFE:
        flow_run = update(FLOW_RUN).where(FLOW_RUN.c.id == task_run["flow_run_id"])
        call.connection.execute(flow_run, {"heartbeat": call.now})
        call.effects.taken.add(task_run["flow_run_id"])
    if state.type in CLAIMABLE and state.start_us is not None:
        _note_next_try(call, task_run, state.start_us)


def cancel_task_runs(call: Call, flow_run_id: str, at_us: int) -> None:
    """Cancel the unfinished task runs of a flow run."""
    unfinished = select(TASK_RUN).where(TASK_RUN.c.flow_run_id == flow_run_id, TASK_RUN.c.state.not_in(_FINISHED_NAMES))
    cancelled = plain_state(RunState.CANCELLED, "its flow run was cancelled", at_us)
    for task_run in call.connection.execute(unfinished).mappings().all():
        enter_task_run_state(call, task_run, cancelled)


def _owner(state: NewState) -> dict[str, Any]:
    """Return the column that says who has claimed it; a task run that waits again is unclaimed."""
    if state.type is RunState.SUBMITTED:
        return {"claim": state.claim}
    return {"claim": None} if state.type in CLAIMABLE else {}


def _note_next_try(call: Call, task_run: StoredRow, start_us: int) -> None:
    """Have agents woken when the task's time has come, in case the flow run's process is gone by then."""
    query = select(FLOW_RUN.c.id, FLOW_RUN.c.version, FLOW_RUN.c.labels).where(
        FLOW_RUN.c.id == task_run["flow_run_id"], FLOW_RUN.c.state == RunState.RUNNING.value
    )
    flow_run = call.connection.execute(query).first()
    if flow_run is not None:
        call.effects.due.append((start_us + HANDED_OUT_AFTER_US, DueRun(*flow_run)))

"""The one place that puts a task run into a state: the new row in its history, and the task run's columns that follow.

There is no table of which state may follow which: the flow's own engine decides that, and takes a task run from a
finished state back to an unfinished one in its normal course (retries, loops, results that were cached).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, insert, select, update

from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd_server.errors import not_found
from flowherd_server.graphql.operations import Call
from flowherd_server.runs.new_states import NewState, plain_state, state_columns, state_row, times_of_run
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN, TASK_RUN_STATE
from flowherd_server.store.times import SECOND_US

_FINISHED_NAMES = sorted(FINISHED)
#: Somebody has the flow run again, whose last heartbeat may be days old after a long retry or a pause.
_SIGNS_OF_LIFE = frozenset({RunState.SUBMITTED, RunState.RUNNING})
#: A process that lives waits itself for its task's next try; agents look so much later, as the dialect's own do.
HANDED_OUT_AFTER_US = 3 * SECOND_US


def task_run_row(call: Call, task_run_id: str) -> RowMapping:
    """The task run. Raises Refused when there is none."""
    row = call.connection.execute(select(TASK_RUN).where(TASK_RUN.c.id == task_run_id)).mappings().first()
    if row is None:
        raise not_found("task run", task_run_id)
    return row


def enter_task_state(call: Call, task_run: RowMapping, state: NewState) -> None:
    """Put `task_run` into `state`."""
    version = task_run["version"] + 1
    call.connection.execute(insert(TASK_RUN_STATE), state_row(call, "task_run_id", task_run["id"], version, state))
    changed = {**state_columns(call, version, state), **times_of_run(task_run, state), **_who(state)}
    if state.type is RunState.RUNNING:
        changed["heartbeat"] = call.now
    call.connection.execute(update(TASK_RUN).where(TASK_RUN.c.id == task_run["id"]), changed)
    if state.type in _SIGNS_OF_LIFE:
        run = update(FLOW_RUN).where(FLOW_RUN.c.id == task_run["flow_run_id"])
        call.connection.execute(run, {"heartbeat": call.now})
    if state.type in CLAIMABLE and state.start_us is not None:
        _tell(call, task_run, state.start_us)


def cancel_task_runs(call: Call, flow_run_id: str, at_us: int) -> None:
    """Cancel the unfinished task runs of a flow run."""
    unfinished = select(TASK_RUN).where(TASK_RUN.c.flow_run_id == flow_run_id, TASK_RUN.c.state.not_in(_FINISHED_NAMES))
    cancelled = plain_state(RunState.CANCELLED, "its flow run was cancelled", at_us)
    for task_run in call.connection.execute(unfinished).mappings().all():
        enter_task_state(call, task_run, cancelled)


def _who(state: NewState) -> dict[str, Any]:
    """Who has taken it; nobody has once it waits again."""
    if state.type is RunState.SUBMITTED:
        return {"claim": state.claim}
    return {"claim": None} if state.type in CLAIMABLE else {}


def _tell(call: Call, task_run: RowMapping, start_us: int) -> None:
    """A flow run that goes on while nobody runs it any more is to be started again when its task's time has come."""
    query = select(FLOW_RUN.c.labels).where(
        FLOW_RUN.c.id == task_run["flow_run_id"], FLOW_RUN.c.state == RunState.RUNNING.value
    )
    labels = call.connection.execute(query).scalar()
    if labels is not None:
        call.effects.due.append((start_us + HANDED_OUT_AFTER_US, labels))

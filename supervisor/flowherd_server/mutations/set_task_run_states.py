"""set_task_run_states, by which a flow's process reports its tasks, and an agent claims a task run that waits.

The order of states is left to the engine (runs/task_run_states.py). Only two things can be refused: to run, which needs
a Running flow run, the stored version and free slots of the task's tags; and to claim a task run that waits, which one
of several agents wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flowherd.states import ACTIVE, CLAIMABLE, RunState
from flowherd_server.call import Call
from flowherd_server.errors import VERSION_LOCKED
from flowherd_server.mutations.idempotency import claim_of, repeats_claim, repeats_start
from flowherd_server.mutations.state_reports import Report, reporting_operation
from flowherd_server.runs.flow_switches import is_version_locked
from flowherd_server.runs.new_state import NewState, plain_state
from flowherd_server.runs.state_history import TASK_RUNS
from flowherd_server.runs.tag_slots import FullTag, full_tag
from flowherd_server.runs.task_run_states import enter_task_run_state
from flowherd_server.store.microseconds import format_time
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW_RUN


def _set_task_run_states(call: Call, reports: list[Report]) -> Mapping[str, Any]:
    return {"states": [{"id": report.run_id, **apply_task_run_report(call, report)} for report in reports]}


def apply_task_run_report(call: Call, report: Report) -> Mapping[str, Any]:
    """Apply one report. Returns its status, and a message for people. Raises Refused if it is refused."""
    task_run = report.row(call)
    if not _repeats(call, task_run, report):
        if report.type in ACTIVE:
            full = _check_may_run(call, task_run, report)
            if full is not None:
                return _queue(call, task_run, full)
        elif report.type is RunState.SUBMITTED:
            _check_may_claim(task_run, report)
        enter_task_run_state(call, task_run, _new_state(call, task_run, report))
    return {"status": "SUCCESS", "message": None}


def _repeats(call: Call, task_run: StoredRow, report: Report) -> bool:
    """Return whether the report repeats what is stored, because its answer was lost."""
    if report.type is RunState.SUBMITTED:
        return repeats_claim(call, task_run, report)
    if report.type is RunState.RUNNING:
        return repeats_start(call, task_run, report)
    return report.type is RunState(task_run["state"]) and dict(report.serialized) == task_run["serialized_state"]


def _check_may_run(call: Call, task_run: StoredRow, report: Report) -> FullTag | None:
    """Raise Refused if the task run may not run at all. Returns a tag without a free slot, or None."""
    flow_run = row_by_id(call.connection, FLOW_RUN, task_run["flow_run_id"])
    if flow_run["state"] != RunState.RUNNING:
        # The last words are those of the dialect's real server.
        raise report.refused(f"its flow run {flow_run['id']} is {flow_run['state']}, so it is not in a running state")
    if report.version not in (None, task_run["version"]) and is_version_locked(call, flow_run["flow_id"]):
        raise report.refused(_other_version(task_run, report), VERSION_LOCKED)
    # A task run that is Running already holds its slots.
    return None if task_run["state"] == RunState.RUNNING else full_tag(call, task_run["task_id"])


def _queue(call: Call, task_run: StoredRow, full: FullTag) -> Mapping[str, Any]:
    """Have the task's process wait for a slot; it asks again by itself."""
    message = f"Queued: the tag {full.tag!r} has as many task runs running as it may ({full.limit})"
    if task_run["state"] != RunState.QUEUED:
        wrapped = {"state": task_run["serialized_state"], "start_time": format_time(call.now)}
        # Without a start time of its own, so that no agent claims it while the process waits.
        enter_task_run_state(call, task_run, plain_state(RunState.QUEUED, message, call.now, **wrapped))
    return {"status": "QUEUED", "message": message}


def _check_may_claim(task_run: StoredRow, report: Report) -> None:
    """Raise Refused if the task run does not wait, or has changed since the agent read it."""
    if task_run["state"] not in CLAIMABLE:
        raise report.refused(f"it is {task_run['state']}, so it cannot be claimed")
    if report.version not in (None, task_run["version"]):
        raise report.refused(_other_version(task_run, report))


def _new_state(call: Call, task_run: StoredRow, report: Report) -> NewState:
    claim = claim_of(call, report) if report.type is RunState.SUBMITTED else report.claim
    state = report.as_state(task_run, report.type, call.now, claim)
    inputs = task_run["serialized_state"].get("cached_inputs")
    if not inputs or state.serialized.get("cached_inputs"):
        return state
    # The next try must find the inputs that the last one was given.
    return replace(state, serialized={**state.serialized, "cached_inputs": inputs})


def _other_version(task_run: StoredRow, report: Report) -> str:
    return f"it is at version {task_run['version']}, not {report.version}"


OPERATIONS = (reporting_operation(TASK_RUNS, frozenset(RunState), _set_task_run_states),)

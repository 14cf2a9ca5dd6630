"""set_task_run_states: what a flow's process says of its tasks, and an agent of one whose flow it will start again.

The engine's order of states is not questioned (task_state_changes.py). Asked for permission are two things: to run,
which needs a flow run that is Running, the stored version and free slots of the task's tags; and to take a task run
that waits, which of any number of agents one gets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from graphql import GraphQLInputField, GraphQLInputObjectType, GraphQLList, GraphQLNonNull
from graphql.type import GraphQLInt
from sqlalchemy import RowMapping

from flowherd.states import ACTIVE, CLAIMABLE, RunState
from flowherd_server.errors import STATE_REFUSED, VERSION_LOCKED, Refused
from flowherd_server.graphql.operations import Call, Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_settings import is_version_locked
from flowherd_server.mutations.idempotency import claim_of, repeats_claim, repeats_start
from flowherd_server.mutations.reports import Report, read_report
from flowherd_server.mutations.states import STATE_RESULT
from flowherd_server.runs.new_states import NewState, plain_state
from flowherd_server.runs.state_changes import flow_run_row
from flowherd_server.runs.tag_limits import TagLimit, full_tag
from flowherd_server.runs.task_state_changes import enter_task_state, task_run_row
from flowherd_server.store.times import format_time


def _prepare(given: Input) -> list[Report]:
    return [read_report(each, "task_run_id", frozenset(RunState)) for each in given["states"]]


def _set_task_run_states(call: Call, reports: list[Report]) -> Mapping[str, Any]:
    return {"states": [{"id": report.run_id, **_apply(call, report)} for report in reports]}


def _apply(call: Call, report: Report) -> Mapping[str, Any]:
    """What became of one report: its status, and a message for people."""
    try:
        task_run = task_run_row(call, report.run_id)
    except Refused as error:
        raise _refused(report, str(error)) from None
    if not _repeats(call, task_run, report):
        if report.type in ACTIVE:
            full = _may_run(call, task_run, report)
            if full is not None:
                return _queue(call, task_run, full)
        elif report.type is RunState.SUBMITTED:
            _may_be_taken(task_run, report)
        enter_task_state(call, task_run, _new_state(call, task_run, report))
    return {"status": "SUCCESS", "message": None}


def _repeats(call: Call, task_run: RowMapping, report: Report) -> bool:
    """Whether the report says what is stored already, because its answer was lost."""
    if report.type is RunState.SUBMITTED:
        return repeats_claim(call, task_run, report)
    if report.type is RunState.RUNNING:
        return repeats_start(call, task_run, report)
    return report.type is RunState(task_run["state"]) and dict(report.serialized) == task_run["serialized_state"]


def _may_run(call: Call, task_run: RowMapping, report: Report) -> TagLimit | None:
    """The tag of which no slot is free, if there is one. Raises Refused when it may not run at all."""
    flow_run = flow_run_row(call, task_run["flow_run_id"])
    if flow_run["state"] != RunState.RUNNING:
        # The words at the end are those of the real server.
        reason = f"its flow run {flow_run['id']} is {flow_run['state']}, so it is not in a running state"
        raise _refused(report, reason)
    if report.version not in (None, task_run["version"]) and is_version_locked(call, flow_run["flow_id"]):
        raise _refused(report, _other_version(task_run, report), VERSION_LOCKED)
    # One that runs has its slots.
    return None if task_run["state"] == RunState.RUNNING else full_tag(call, task_run["task_id"])


def _queue(call: Call, task_run: RowMapping, full: TagLimit) -> Mapping[str, Any]:
    """Let the task's process wait for a slot; it asks again by itself."""
    message = f"Queued: the tag {full.tag!r} has as many task runs running as it may ({full.limit})"
    if task_run["state"] != RunState.QUEUED:
        wrapped = {"state": task_run["serialized_state"], "start_time": format_time(call.now)}
        # Without a time of its own, so that no agent takes it for one that nobody waits for.
        enter_task_state(call, task_run, plain_state(RunState.QUEUED, message, call.now, **wrapped))
    return {"status": "QUEUED", "message": message}


def _may_be_taken(task_run: RowMapping, report: Report) -> None:
    """Raises Refused when it does not wait, or somebody has been faster."""
    if task_run["state"] not in CLAIMABLE:
        raise _refused(report, f"it is {task_run['state']}, so there is nothing to be taken")
    if report.version not in (None, task_run["version"]):
        raise _refused(report, _other_version(task_run, report))


def _new_state(call: Call, task_run: RowMapping, report: Report) -> NewState:
    claim = claim_of(call, report) if report.type is RunState.SUBMITTED else report.claim
    state = report.as_state(report.type, call.now, claim)
    inputs = task_run["serialized_state"].get("cached_inputs")
    if not inputs or state.serialized.get("cached_inputs"):
        return state
    # A later try finds the inputs that an earlier one was given.
    return replace(state, serialized={**state.serialized, "cached_inputs": inputs})


def _other_version(task_run: RowMapping, report: Report) -> str:
    return f"it is at version {task_run['version']}, not {report.version}"


def _refused(report: Report, reason: str, code: str = STATE_REFUSED) -> Refused:
    # The words at the start are those by which the dialect's agents know a lost claim.
    return Refused(f"State update failed for task run ID {report.run_id}: {reason}", code)


_STATE_INPUT = GraphQLInputObjectType(
    "set_task_run_state_input",
    {
        "task_run_id": GraphQLInputField(GraphQLNonNull(UUID_INPUT)),
        "version": GraphQLInputField(GraphQLInt),
        "state": GraphQLInputField(GraphQLNonNull(JSON_INPUT)),
    },
)

OPERATIONS = (
    Operation(
        name="set_task_run_states",
        arguments={"states": GraphQLNonNull(GraphQLList(GraphQLNonNull(_STATE_INPUT)))},
        answer={"states": GraphQLList(GraphQLNonNull(STATE_RESULT))},
        handle=_set_task_run_states,
        prepare=_prepare,
    ),
)

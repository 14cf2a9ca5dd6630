"""set_flow_run_states: where a claim is won or lost.

The whole list is one transaction behind the one writer's lock, so of any number of agents that claim a run one wins.
A report that only repeats what is stored, because its answer was lost, is a success that changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLInputField, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, GraphQLObjectType
from graphql.type import GraphQLField, GraphQLInt, GraphQLString
from sqlalchemy import RowMapping

from flowherd.errors import IllegalTransition
from flowherd.states import ACTIVE, EVENT_OF_REPORT, FINISHED, Event, RunState, after
from flowherd_server.errors import STATE_REFUSED, VERSION_LOCKED, Refused
from flowherd_server.graphql.operations import Call, Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_settings import is_version_locked
from flowherd_server.mutations.idempotency import claim_of, repeats_claim, repeats_start
from flowherd_server.mutations.reports import Report, read_report
from flowherd_server.runs.state_changes import enter_state, flow_run_row


def _prepare(given: Input) -> list[Report]:
    return [read_report(each, "flow_run_id", EVENT_OF_REPORT) for each in given["states"]]


def _set_flow_run_states(call: Call, reports: list[Report]) -> Mapping[str, Any]:
    for report in reports:
        _apply(call, report)
    return {"states": [{"id": report.run_id, "status": "SUCCESS", "message": None} for report in reports]}


def _apply(call: Call, report: Report) -> None:
    try:
        run = flow_run_row(call, report.run_id)
    except Refused as error:
        raise _refused(report, str(error)) from None
    state, event = RunState(run["state"]), EVENT_OF_REPORT[report.type]
    if _repeats(call, run, state, report):
        return
    try:
        target = after(state, event)
    except IllegalTransition as error:
        raise _refused(report, str(error)) from None
    if event is Event.START or event is Event.CLAIM:
        _check_version(call, run, report)
    # A report of Cancelling can end a run that nobody runs; all others name the kind of the target (TimedOut: Failed).
    stored_type = target if event is Event.REQUEST_CANCEL else report.type
    claim = claim_of(call, report) if event is Event.CLAIM else report.claim
    enter_state(call, run, report.as_state(stored_type, call.now, claim))


def _check_version(call: Call, run: RowMapping, report: Report) -> None:
    if report.version in (None, run["version"]):
        return
    reason = f"the run is at version {run['version']}, not {report.version}"
    if report.type is RunState.SUBMITTED:
        raise _refused(report, reason)
    if is_version_locked(call, run["flow_id"]):
        raise _refused(report, reason, VERSION_LOCKED)


def _repeats(call: Call, run: RowMapping, state: RunState, report: Report) -> bool:
    """Whether the report says what is stored already, by the one who said it."""
    same_claim = report.claim is not None and report.claim == run["claim"]
    if report.type is RunState.SUBMITTED:
        return repeats_claim(call, run, report)
    if report.type is RunState.RUNNING:
        # Nor does a Running that arrives after the request to cancel take that back.
        return (same_claim and state in ACTIVE) or repeats_start(call, run, report)
    # Prefect's engine has no claim, but sends the same state again, word for word.
    return state in FINISHED and state is report.type and (same_claim or report.serialized == run["serialized_state"])


def _refused(report: Report, reason: str, code: str = STATE_REFUSED) -> Refused:
    # The words at the start are those by which the dialect's agents know a lost claim.
    return Refused(f"State update failed for flow run ID {report.run_id}: {reason}", code)


_STATE_INPUT = GraphQLInputObjectType(
    "set_flow_run_state_input",
    {
        "flow_run_id": GraphQLInputField(GraphQLNonNull(UUID_INPUT)),
        "version": GraphQLInputField(GraphQLInt),
        "state": GraphQLInputField(GraphQLNonNull(JSON_INPUT)),
    },
)
STATE_RESULT = GraphQLObjectType(
    "set_state_result",
    {"id": GraphQLField(UUID_INPUT), "status": GraphQLField(GraphQLString), "message": GraphQLField(GraphQLString)},
)

OPERATIONS = (
    Operation(
        name="set_flow_run_states",
        arguments={"states": GraphQLNonNull(GraphQLList(GraphQLNonNull(_STATE_INPUT)))},
        answer={"states": GraphQLList(GraphQLNonNull(STATE_RESULT))},
        handle=_set_flow_run_states,
        prepare=_prepare,
    ),
)

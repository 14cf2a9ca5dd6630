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
from flowherd.server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd.server.mutations.reports import Report, read_report
from flowherd.server.operations import Call, Input, Operation
from flowherd.server.refusals import STATE_REFUSED, Refused
from flowherd.server.state_changes import enter_state, flow_run_row
from flowherd.states import ACTIVE, FINISHED, Event, RunState, after


def _prepare(given: Input) -> list[Report]:
    return [read_report(each) for each in given["states"]]


def _set_flow_run_states(call: Call, reports: list[Report]) -> Mapping[str, Any]:
    for report in reports:
        _apply(call, report)
    return {"states": [{"id": report.flow_run_id, "status": "SUCCESS", "message": None} for report in reports]}


def _apply(call: Call, report: Report) -> None:
    try:
        run = flow_run_row(call, report.flow_run_id)
    except Refused as error:
        raise _refused(report, str(error)) from None
    state = RunState(run["state"])
    if _repeats(run, state, report):
        return
    try:
        target = after(state, report.event)
    except IllegalTransition as error:
        raise _refused(report, str(error)) from None
    if report.event in (Event.CLAIM, Event.START) and report.version not in (None, run["version"]):
        raise _refused(report, f"the run is at version {run['version']}, not {report.version}")
    # A report of Cancelling can end a run that nobody runs; all others name the kind of the target (TimedOut: Failed).
    stored_type = target if report.event is Event.REQUEST_CANCEL else report.type
    enter_state(call, run, report.as_state(stored_type, call.now))


def _repeats(run: RowMapping, state: RunState, report: Report) -> bool:
    """Whether the report says what is stored already, by the one who said it."""
    same_claim = report.claim is not None and report.claim == run["claim"]
    if report.event is Event.CLAIM:
        return same_claim and state in (RunState.SUBMITTED, RunState.RUNNING)
    if report.event is Event.START:
        # Nor does a Running that arrives after the request to cancel take that back.
        return same_claim and state in ACTIVE
    # Prefect's engine has no claim, but sends the same state again, word for word.
    return state in FINISHED and state is report.type and (same_claim or report.serialized == run["serialized_state"])


def _refused(report: Report, reason: str) -> Refused:
    # The words at the start are those by which the dialect's agents know a lost claim.
    return Refused(f"State update failed for flow run ID {report.flow_run_id}: {reason}", STATE_REFUSED)


_STATE_INPUT = GraphQLInputObjectType(
    "set_flow_run_state_input",
    {
        "flow_run_id": GraphQLInputField(GraphQLNonNull(UUID_INPUT)),
        "version": GraphQLInputField(GraphQLInt),
        "state": GraphQLInputField(GraphQLNonNull(JSON_INPUT)),
    },
)
_STATE_RESULT = GraphQLObjectType(
    "set_state_result",
    {"id": GraphQLField(UUID_INPUT), "status": GraphQLField(GraphQLString), "message": GraphQLField(GraphQLString)},
)

OPERATIONS = (
    Operation(
        name="set_flow_run_states",
        arguments={"states": GraphQLNonNull(GraphQLList(GraphQLNonNull(_STATE_INPUT)))},
        answer={"states": GraphQLList(GraphQLNonNull(_STATE_RESULT))},
        handle=_set_flow_run_states,
        prepare=_prepare,
    ),
)

"""claim_runs, by which flowherd's agent claims many flow runs at once: one transaction, and one answer for each run.

Whether a claim is won is decided as for one that set_flow_run_states and set_task_run_states bring; those remain for
Prefect's agents. The same claims again have the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLInputField, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, GraphQLObjectType
from graphql.type import GraphQLBoolean, GraphQLField, GraphQLInt, GraphQLString

from flowherd.states import RunState
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.mutations.set_flow_run_states import apply_flow_run_report
from flowherd_server.mutations.set_task_run_states import apply_task_run_report
from flowherd_server.mutations.state_reports import Report
from flowherd_server.runs.state_history import FLOW_RUNS, TASK_RUNS, RunTables
from flowherd_server.store.microseconds import format_time

#: Maximum number of claims in one request.
MAX_CLAIMS = 100

_TASK_RUN = GraphQLInputObjectType(
    "claim_runs_task_run_input",
    {"task_run_id": GraphQLInputField(GraphQLNonNull(UUID_INPUT)), "version": GraphQLInputField(GraphQLInt)},
)
_CLAIM = GraphQLInputObjectType(
    "claim_runs_claim_input",
    {
        "flow_run_id": GraphQLInputField(GraphQLNonNull(UUID_INPUT)),
        # The version that the agent has read; null if the run is claimed through the first of its task runs.
        "version": GraphQLInputField(GraphQLInt),
        "claim": GraphQLInputField(GraphQLNonNull(GraphQLString)),
        "task_runs": GraphQLInputField(GraphQLList(GraphQLNonNull(_TASK_RUN))),
    },
)
_ANSWER = GraphQLObjectType(
    "claim_runs_answer",
    {
        "flow_run_id": GraphQLField(UUID_INPUT),
        "won": GraphQLField(GraphQLNonNull(GraphQLBoolean)),
        # Why it is lost.
        "message": GraphQLField(GraphQLString),
    },
)


def checked_claims(given: Input) -> Input:
    """Return the input. Raises Refused if it is not one of claims."""
    if len(given["claims"]) > MAX_CLAIMS:
        raise Refused(f"{len(given['claims'])} claims in one request; {MAX_CLAIMS} are allowed")
    for claim in given["claims"]:
        if claim.get("version") is None and not claim.get("task_runs"):
            raise Refused(f"the claim of {claim['flow_run_id']} has neither a version nor task runs")
    return given


def claim_runs(call: Call, given: Input) -> Mapping[str, Any]:
    """Claim the runs, each for itself."""
    return {"claims": [{"flow_run_id": claim["flow_run_id"], **_claim(call, claim)} for claim in given["claims"]]}


def _claim(call: Call, claim: Mapping[str, Any]) -> Mapping[str, Any]:
    """Claim one run. A refusal is raised before anything of the run is changed."""
    task_runs = list(claim.get("task_runs") or ())
    try:
        if claim.get("version") is not None:
            apply_flow_run_report(call, _submitted(call, FLOW_RUNS, claim["flow_run_id"], claim["version"], claim))
        else:
            _claim_task_run(call, task_runs.pop(0), claim)
    except Refused as refusal:
        return {"won": False, "message": str(refusal)}
    for task_run in task_runs:
        # If another task run no longer waits, its engine goes on with it; the flow run is won all the same.
        try:
            _claim_task_run(call, task_run, claim)
        except Refused:
            continue
    return {"won": True, "message": None}


def _claim_task_run(call: Call, task_run: Mapping[str, Any], claim: Mapping[str, Any]) -> None:
    report = _submitted(call, TASK_RUNS, task_run["task_run_id"], task_run.get("version"), claim)
    apply_task_run_report(call, report)


def _submitted(call: Call, tables: RunTables, run_id: str, version: int | None, claim: Mapping[str, Any]) -> Report:
    """Return the report that an agent would send to set_flow_run_states or set_task_run_states."""
    serialized = {
        "type": RunState.SUBMITTED.value,
        "message": "Submitted for execution",
        "context": {"flowherd": {"claim": claim["claim"], "at": format_time(call.now)}},
        "cached_inputs": {},
        "_result": {"type": "NoResultType"},
    }
    return Report(
        tables=tables,
        run_id=run_id,
        version=version,
        type=RunState.SUBMITTED,
        serialized=serialized,
        at_us=call.now,
        start_us=None,
        claim=claim["claim"],
        keeps_state=True,
    )


OPERATIONS = (
    Operation(
        name="claim_runs",
        arguments={"claims": GraphQLNonNull(GraphQLList(GraphQLNonNull(_CLAIM)))},
        answer={"claims": GraphQLList(GraphQLNonNull(_ANSWER))},
        handle=claim_runs,
        prepare=checked_claims,
    ),
)

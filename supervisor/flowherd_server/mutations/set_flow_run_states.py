"""set_flow_run_states, by which agents claim flow runs, and agents and engines report how they go on.

The whole list is one transaction under the single write lock, so if several agents claim a run, one of them wins.
A report that repeats what is stored, because its answer was lost, succeeds and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowherd.errors import IllegalTransition
from flowherd.states import ACTIVE, EVENT_OF_REPORT, FINISHED, Event, RunState, after
from flowherd_server.call import Call
from flowherd_server.errors import VERSION_LOCKED
from flowherd_server.mutations.idempotency import claim_of, repeats_claim, repeats_start
from flowherd_server.mutations.state_reports import Report, reporting_operation
from flowherd_server.rules.attempts import after_end, is_of_another_attempt, is_of_ended_attempt, reported_end
from flowherd_server.rules.settle import why_not_now
from flowherd_server.runs.accounts import store_account
from flowherd_server.runs.flow_run_states import enter_flow_run_state
from flowherd_server.runs.flow_switches import is_version_locked
from flowherd_server.runs.state_history import FLOW_RUNS
from flowherd_server.schedules.auto_runs import lacks_a_later_run
from flowherd_server.store.plain import StoredRow

#: What only the agent reports that has the run.
_BY_ITS_AGENT = frozenset({Event.START, Event.SUCCEED, Event.FAIL, Event.CANCEL})


def set_flow_run_states(call: Call, reports: list[Report]) -> Mapping[str, Any]:
    """Apply all reports, or none of them."""
    for number, report in enumerate(reports):
        if not _is_overtaken(call, report, reports[number + 1 :]):
            apply_flow_run_report(call, report)
    return {"states": [{"id": report.run_id, "status": "SUCCESS", "message": None} for report in reports]}


def apply_flow_run_report(call: Call, report: Report) -> None:
    """Apply one report; the one place that decides who has claimed a flow run. Raises Refused if it is refused."""
    run = report.row(call)
    state, event = RunState(run["state"]), EVENT_OF_REPORT[report.type]
    if _repeats(call, run, state, report):
        if report.account is not None and state is report.type:  # the run's own engine has reported the end before
            store_account(call.connection, run["seq"], run["version"], report.account)
        return
    if event in _BY_ITS_AGENT and is_of_another_attempt(run, report.claim):
        raise report.refused("it is of an attempt that has ended, and the run was tried again since")
    try:
        target = after(state, event)
    except IllegalTransition as error:
        raise report.refused(str(error)) from None
    if event is Event.START or event is Event.CLAIM:
        _check_version(call, run, report)
    if event is Event.CLAIM and run["rules"] is not None:
        _check_rules(call, run, report)
    # Cancelling ends a run without a process, so the target counts. For other reports the target is only the family of
    # the reported state (Failed for TimedOut).
    stored_type = target if event is Event.REQUEST_CANCEL else report.type
    claim = claim_of(call, report) if event is Event.CLAIM else report.claim
    entered = report.as_state(run, stored_type, call.now, claim)
    columns: dict[str, Any] = {}
    if run["attempt"] is not None and report.claim is not None and stored_type in FINISHED:
        entered, columns = after_end(call, run, reported_end(entered, report.at_us))
    elif run["attempt"] is not None and event is Event.SCHEDULE and state in FINISHED:
        columns = {"attempt": run["attempt"] + 1}  # a person starts it again
    enter_flow_run_state(call, run, entered, **columns)
    if report.account is not None and stored_type in FINISHED:
        store_account(call.connection, run["seq"], run["version"] + 1, report.account)


def _is_overtaken(call: Call, report: Report, later: Sequence[Report]) -> bool:
    """Return whether this is the start of a run whose end comes later in the same request, and is stored already.

    A request with both is repeated as a whole if its answer was lost.
    """
    if report.type is not RunState.RUNNING:
        return False
    ends = [each for each in later if each.run_id == report.run_id and each.type in FINISHED]
    if not ends:
        return False
    run = report.row(call)
    return _repeats(call, run, RunState(run["state"]), ends[0])


def _check_version(call: Call, run: StoredRow, report: Report) -> None:
    if report.version in (None, run["version"]):
        return
    reason = f"the run is at version {run['version']}, not {report.version}"
    if report.type is RunState.SUBMITTED:
        raise report.refused(reason)
    if is_version_locked(call, run["flow_id"]):
        raise report.refused(reason, VERSION_LOCKED)


def _check_rules(call: Call, run: StoredRow, report: Report) -> None:
    """Refuse a claim that the rules of the run's flow do not allow now. What becomes of the run is decided apart."""
    if not call.offers_runs:  # a claim from before the database was restored
        return
    why = why_not_now(call, run)
    if why is None and lacks_a_later_run(call, run):
        why = "a later run of its schedule was missed too, and is about to be created (catch-up: last)"
        call.effects.schedules = True
    if why is not None:
        raise report.refused(why)


def _repeats(call: Call, run: StoredRow, state: RunState, report: Report) -> bool:
    """Return whether the report repeats what its sender has already stored."""
    same_claim = report.claim is not None and report.claim == run["claim"]
    if report.type is RunState.SUBMITTED:
        return repeats_claim(call, run, report)
    if report.type is RunState.RUNNING:
        # A Running that arrives after the request to cancel does not take that request back either.
        return (same_claim and state in ACTIVE) or repeats_start(call, run, report)
    if report.type in FINISHED and is_of_ended_attempt(call, run, report.claim, report.at_us):
        return True
    # Prefect's engine sends no claim token, but repeats the state word for word.
    return state in FINISHED and state is report.type and (same_claim or report.serialized == run["serialized_state"])


OPERATIONS = (reporting_operation(FLOW_RUNS, EVENT_OF_REPORT, set_flow_run_states),)

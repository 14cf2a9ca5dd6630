"""Telling a report that is repeated because its answer was lost from the same report by another sender.

flowherd's agent sends a claim token with each report. Prefect's clients send none, and 1.x repeats every request after
a timeout: its agent is recognised by its id and the time, its engine by version, words and time.
"""

from __future__ import annotations

from flowherd.states import RunState
from flowherd_server.call import Call
from flowherd_server.mutations.state_reports import Report
from flowherd_server.runs.new_state import BY_PREFECTS_AGENT
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.plain import StoredRow

#: Prefect 1.x waits 15 s for an answer before it repeats a request. Agents that were started with the same settings
#: share one id, and their claims of the same run come at shorter intervals: the second one must be refused.
AGENT_ASKS_AGAIN_AFTER_US = 10 * SECOND_US
#: It repeats a request at most six times.
AGENT_GIVES_UP_AFTER_US = 180 * SECOND_US
#: The pauses between these repetitions, without the time spent waiting for answers.
ENGINE_ASKS_AGAIN_WITHIN_US = 62 * SECOND_US


def claim_of(call: Call, report: Report) -> str | None:
    """Return who claims: the token that was sent, else the agent; None if there is neither."""
    if report.claim is not None:
        return report.claim
    return None if call.caller.agent_id is None else f"{BY_PREFECTS_AGENT}{call.caller.agent_id}"


def repeats_claim(call: Call, run: StoredRow, report: Report) -> bool:
    """Return whether the reported Submitted repeats a claim of `run`, a flow run or task run, by this reporter."""
    claim = claim_of(call, report)
    if claim is None or claim != run["claim"]:
        return False
    if report.claim is not None:
        return RunState(run["state"]) in (RunState.SUBMITTED, RunState.RUNNING)
    # An agent that did not get the answer has not started the run, so it is still Submitted.
    age_us: int = call.now - run["state_timestamp"]
    waits = RunState(run["state"]) is RunState.SUBMITTED
    return waits and AGENT_ASKS_AGAIN_AFTER_US <= age_us <= AGENT_GIVES_UP_AFTER_US


def repeats_start(call: Call, run: StoredRow, report: Report) -> bool:
    """Return whether the reported Running is the one that put `run` into its state, repeated by an engine."""
    age_us: int = call.now - run["state_timestamp"]
    return (
        RunState(run["state"]) is RunState.RUNNING
        and report.version is not None
        and report.version + 1 == int(run["version"])
        and dict(report.serialized) == run["serialized_state"]
        and age_us <= ENGINE_ASKS_AGAIN_WITHIN_US
    )

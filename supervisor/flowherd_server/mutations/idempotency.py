"""What tells a report that is sent again, because its answer was lost, from the same words of somebody else.

flowherd's agent has a token for that. Prefect's clients have none, and 1.x sends everything again after a timeout: its
agent is known by its id, its engine by the words and the time.
"""

from __future__ import annotations

from sqlalchemy import RowMapping

from flowherd.states import RunState
from flowherd_server.graphql.operations import Call
from flowherd_server.mutations.reports import Report
from flowherd_server.runs.new_states import BY_PREFECTS_AGENT
from flowherd_server.store.times import SECOND_US

#: Prefect 1.x waits 15 s for an answer before it asks again. Two agents that were started alike have one id, and
#: their claims of the same run lie closer together: the second of these is refused.
AGENT_ASKS_AGAIN_AFTER_US = 10 * SECOND_US
#: It asks at most six times again.
AGENT_GIVES_UP_AFTER_US = 180 * SECOND_US
#: The pauses of these tries, without the waits for an answer.
ENGINE_ASKS_AGAIN_WITHIN_US = 62 * SECOND_US


def claim_of(call: Call, report: Report) -> str | None:
    """Who claims: the token that was sent, else the agent; None where nobody can know."""
    if report.claim is not None:
        return report.claim
    return None if call.caller.agent_id is None else f"{BY_PREFECTS_AGENT}{call.caller.agent_id}"


def repeats_claim(call: Call, run: RowMapping, report: Report) -> bool:
    """Whether the Submitted that is reported is what `run`, a flow run or a task run, has from this reporter."""
    claim = claim_of(call, report)
    if claim is None or claim != run["claim"]:
        return False
    if report.claim is not None:
        return RunState(run["state"]) in (RunState.SUBMITTED, RunState.RUNNING)
    # The one who did not get the answer has not started it.
    age_us: int = call.now - run["state_timestamp"]
    waits = RunState(run["state"]) is RunState.SUBMITTED
    return waits and AGENT_ASKS_AGAIN_AFTER_US <= age_us <= AGENT_GIVES_UP_AFTER_US


def repeats_start(call: Call, run: RowMapping, report: Report) -> bool:
    """Whether the Running that is reported is the one that made `run` what it is, sent again by an engine."""
    age_us: int = call.now - run["state_timestamp"]
    return (
        RunState(run["state"]) is RunState.RUNNING
        and report.version is not None
        and report.version + 1 == int(run["version"])
        and dict(report.serialized) == run["serialized_state"]
        and age_us <= ENGINE_ASKS_AGAIN_WITHIN_US
    )

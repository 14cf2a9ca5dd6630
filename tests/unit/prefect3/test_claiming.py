"""What a run's history shows about a claim: a state is dated when it is proposed, and may be stored much later."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flowherd.backends.prefect3.claiming import _states_since_it_waited
from flowherd.backends.prefect3.run_row import RunRow

MINE, OTHER = UUID(int=1), UUID(int=2)
AS_READ = RunRow(id="r", name="r", flow_id="f", deployment_id=None, state_type="SCHEDULED", state_name="", state_id="s")


def state(kind: str, id_: str = "", *, name: str = "", claim: UUID | None = None) -> dict[str, Any]:
    details = {"transition_id": str(claim) if claim else None}
    return {"type": kind, "id": id_ or kind, "name": name, "state_details": details}


WAITING, CLAIM = state("SCHEDULED", "s"), state("PENDING", claim=MINE)
ELSEWHERE = [state("PENDING", "p", claim=OTHER), state("RUNNING"), state("COMPLETED")]


def test_a_claim_of_a_run_that_has_not_changed_follows_no_other_state() -> None:
    assert _states_since_it_waited([WAITING, CLAIM], MINE, AS_READ) == []
    assert _states_since_it_waited([WAITING, state("SCHEDULED", "l", name="Late"), CLAIM], MINE, AS_READ) == []


def test_states_of_a_suspended_run_before_it_waited_again_are_not_another_workers() -> None:
    before = [state("SCHEDULED", "first"), *ELSEWHERE[:2], state("PAUSED")]
    assert _states_since_it_waited([*before, WAITING, CLAIM], MINE, AS_READ) == []
    assert _states_since_it_waited([*before, WAITING, CLAIM], MINE, None) == []


def test_a_run_that_ended_elsewhere_is_noticed_whether_the_claim_is_dated_before_or_after() -> None:
    for history in ([WAITING, *ELSEWHERE, CLAIM], [WAITING, CLAIM, *ELSEWHERE]):
        assert _states_since_it_waited(history, MINE, AS_READ) == ELSEWHERE

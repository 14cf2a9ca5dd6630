"""What a claim's history tells: the server dates states when they are proposed, and may store them much later."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flowherd.backends.prefect3.claiming import _since_it_waited
from flowherd.backends.prefect3.rows import RunRow

MINE, ANOTHERS = UUID(int=1), UUID(int=2)
LOOKED_AT = RunRow(
    id="r", name="r", flow_id="f", deployment_id=None, state_type="SCHEDULED", state_name="", state_id="s"
)


def state(kind: str, id_: str = "", *, name: str = "", claim: UUID | None = None) -> dict[str, Any]:
    details = {"transition_id": str(claim) if claim else None}
    return {"type": kind, "id": id_ or kind, "name": name, "state_details": details}


WAITING, CLAIM = state("SCHEDULED", "s"), state("PENDING", claim=MINE)
ELSEWHERE = [state("PENDING", "p", claim=ANOTHERS), state("RUNNING"), state("COMPLETED")]


def test_a_claim_upon_what_was_looked_at_follows_nothing_else() -> None:
    assert _since_it_waited([WAITING, CLAIM], MINE, LOOKED_AT) == []
    assert _since_it_waited([WAITING, state("SCHEDULED", "l", name="Late"), CLAIM], MINE, LOOKED_AT) == []


def test_what_a_suspended_run_was_before_it_waited_again_is_nobody_elses() -> None:
    before = [state("SCHEDULED", "first"), *ELSEWHERE[:2], state("PAUSED")]
    assert _since_it_waited([*before, WAITING, CLAIM], MINE, LOOKED_AT) == []
    assert _since_it_waited([*before, WAITING, CLAIM], MINE, None) == []


def test_a_run_that_ended_elsewhere_is_seen_wherever_the_claims_time_puts_it() -> None:
    for history in ([WAITING, *ELSEWHERE, CLAIM], [WAITING, CLAIM, *ELSEWHERE]):
        assert _since_it_waited(history, MINE, LOOKED_AT) == ELSEWHERE

"""Which state of a run comes before its kept end, and which one after it: the version decides."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from flowherd.host.delivery.older_copy import is_before, is_before_claim
from flowherd.host.store.kept_ends import KeptEnd
from flowherd.states import RunState
from flowherd.values import StateReport, StoredState

RUN_ID = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"
OURS = f"us/{RUN_ID}"


def end(claimed_version: int | None = 3, end_version: int | None = None) -> KeptEnd:
    at = datetime(2026, 1, 1, tzinfo=timezone.utc)
    report = StateReport(flow_run_id=RUN_ID, state=RunState.SUCCESS, message="done", at=at, claim=OURS)
    return KeptEnd(report=report, claimed_version=claimed_version, end_version=end_version)


def stored(state: str, version: int, claim: str | None = None) -> StoredState:
    return StoredState(flow_run_id=RUN_ID, version=version, state=RunState(state), claim=claim)


@pytest.mark.parametrize(
    ("state", "last_before"), [("Scheduled", 3), ("Retrying", 3), ("Submitted", 4), ("Running", 5), ("Cancelling", 6)]
)
def test_a_state_is_before_the_end_up_to_the_version_that_its_start_can_have_given_it(
    state: str, last_before: int
) -> None:
    assert is_before(end(3), stored(state, last_before))
    assert not is_before(end(3), stored(state, last_before + 1)), "a person had it started again"


def test_the_version_of_the_end_itself_decides_if_it_is_known() -> None:
    assert is_before(end(3, end_version=40), stored("Running", 39))
    assert not is_before(end(3, end_version=40), stored("Scheduled", 41))


def test_without_versions_only_a_claim_of_our_own_shows_it() -> None:
    assert is_before(end(None), stored("Running", 5, OURS))
    assert not is_before(end(None), stored("Running", 5, "them"))
    assert not is_before(end(None), stored("Scheduled", 1))


def test_only_a_state_that_waits_is_before_a_claim() -> None:
    assert is_before_claim(3, stored("Scheduled", 3))
    assert not is_before_claim(3, stored("Scheduled", 4))
    assert not is_before_claim(3, stored("Running", 3))
    assert not is_before_claim(None, stored("Scheduled", 1))

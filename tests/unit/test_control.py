"""Requests from the operator: pauses that outlive the agent, the one stop request that counts, and both for claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.agent.control import Control
from flowherd.agent.shutdown import ShutdownRequest


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def control(changes: list[str]) -> Control:
    return Control(lambda: changes.append("changed"))


def test_without_requests_the_agent_claims(control: Control) -> None:
    assert control.claim_pause() is None
    assert control.shutdown_request is None


def test_a_pause_lasts_until_resume_and_each_change_is_announced(control: Control, changes: list[str]) -> None:
    control.pause()
    claim_pause = control.claim_pause()
    assert claim_pause is not None and claim_pause.word == "paused"
    control.resume()
    assert control.claim_pause() is None
    assert changes == ["changed", "changed"]


def test_a_pause_is_remembered_by_the_next_agent_and_so_is_its_end(control: Control, tmp_path: Path) -> None:
    file = tmp_path / "paused"
    control.remember_pause_in(file)
    control.pause()
    following = Control(lambda: None)
    following.remember_pause_in(file)
    assert following.paused
    following.resume()
    last = Control(lambda: None)
    last.remember_pause_in(file)
    assert not last.paused


def test_a_pause_that_cannot_be_written_down_does_not_begin(control: Control, tmp_path: Path) -> None:
    control.remember_pause_in(tmp_path / "missing" / "paused")
    with pytest.raises(OSError):
        control.pause()
    assert not control.paused


def test_the_first_stop_request_counts(control: Control) -> None:
    assert control.shut_down(ShutdownRequest(on_stop="drain", deadline_s=5.0))
    assert not control.shut_down(ShutdownRequest(on_stop="cancel"))
    assert control.shutdown_request == ShutdownRequest(on_stop="drain", deadline_s=5.0)
    claim_pause = control.claim_pause()
    assert claim_pause is not None and claim_pause.word == "draining"


def test_a_stop_request_without_a_choice_is_the_usual_one(control: Control) -> None:
    control.usual_stop = "cancel"
    control.shut_down(ShutdownRequest())
    assert control.shutdown_request == ShutdownRequest(on_stop="cancel")


def test_a_stop_for_a_restart_keeps_the_runs(control: Control) -> None:
    """Also if the usual stop ends them."""
    control.usual_stop = "cancel"
    control.keep_runs_at_stop()
    control.shut_down(ShutdownRequest())
    assert control.shutdown_request == ShutdownRequest(on_stop="detach")


def test_a_stop_request_counts_more_than_a_pause(control: Control) -> None:
    control.pause()
    control.shut_down(ShutdownRequest(on_stop="detach", start_again=True))
    claim_pause = control.claim_pause()
    assert claim_pause is not None and claim_pause.word == "restarting"

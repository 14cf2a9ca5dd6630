"""What a person asks of an agent: pauses that outlive it, one departure that stands, and what both mean for claims."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.agent.control import Control, Departure


@pytest.fixture
def changes() -> list[str]:
    return []


@pytest.fixture
def control(changes: list[str]) -> Control:
    return Control(lambda: changes.append("changed"))


def test_an_agent_of_which_nothing_is_asked_claims(control: Control) -> None:
    assert control.claim_pause() is None
    assert control.departure is None


def test_a_pause_holds_back_until_somebody_resumes_and_each_is_told(control: Control, changes: list[str]) -> None:
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


def test_a_pause_that_cannot_be_written_down_is_none(control: Control, tmp_path: Path) -> None:
    control.remember_pause_in(tmp_path / "missing" / "paused")
    with pytest.raises(OSError):
        control.pause()
    assert not control.paused


def test_the_first_departure_stands(control: Control) -> None:
    assert control.leave(Departure(on_stop="drain", deadline_s=5.0))
    assert not control.leave(Departure(on_stop="cancel"))
    assert control.departure == Departure(on_stop="drain", deadline_s=5.0)
    claim_pause = control.claim_pause()
    assert claim_pause is not None and claim_pause.word == "draining"


def test_a_stop_of_which_nothing_else_is_said_is_the_usual_one(control: Control) -> None:
    control.usual_stop = "cancel"
    control.leave(Departure())
    assert control.departure == Departure(on_stop="cancel")


def test_who_stops_the_agent_to_start_it_again_keeps_its_runs(control: Control) -> None:
    """Whatever its usual stop does; a drain that somebody asked for stays one."""
    control.usual_stop = "cancel"
    control.keep_runs_at_stop()
    control.leave(Departure())
    assert control.departure == Departure(on_stop="detach")


def test_leaving_weighs_more_than_a_pause(control: Control) -> None:
    control.pause()
    control.leave(Departure(on_stop="detach", again=True))
    claim_pause = control.claim_pause()
    assert claim_pause is not None and claim_pause.word == "restarting"

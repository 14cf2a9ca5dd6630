"""The steps of a run, with the milliseconds between them, from whatever of them is known."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from flowherd.cli.explain.phases import STEPS, StoredTimes, as_rows, phases
from flowherd.phase_times import known_phases
from flowherd.story.records import StateView

START = datetime(2030, 1, 1, tzinfo=timezone.utc)


def state(name: str, after_ms: int, **phases_ms: int) -> StateView:
    times = tuple((step, START.timestamp() + ms / 1000) for step, ms in phases_ms.items())
    at = START + timedelta(milliseconds=after_ms)
    return StateView(version=1, state=name, at=at, message=None, pid=None, reason=None, grade=None, phases=times)


def test_the_steps_stand_in_the_order_in_which_they_happened() -> None:
    end = state("Success", 50, intent=1, asked=4, code=12, recorded=55)
    states = [state("Submitted", 9), state("Running", 10), end]
    stored = StoredTimes(first_line=START + timedelta(milliseconds=14), changed=START + timedelta(milliseconds=60))
    found = phases(None, states, stored, None)
    rows = [(name, since, step) for name, since, step, _ in as_rows(found)]
    assert rows[:4] == [
        ("intent", "0.0", ""),
        ("asked", "3.0", "3.0"),
        ("claimed", "8.0", "5.0"),
        ("started", "9.0", "1.0"),
    ]
    assert [name for name, _, _ in rows[4:]] == ["code", "first line", "ended", "recorded", "stored"]
    assert [step.phase for step in found if step.at is None] == ["created", "due"]


def test_the_first_line_is_known_of_a_run_whose_log_the_server_does_not_have() -> None:
    states = [state("Running", 10), state("Success", 50, code=12, first_line=14)]
    assert [row[0] for row in as_rows(phases(None, states, StoredTimes(), None))] == [
        "started",
        "code",
        "first line",
        "ended",
    ]


def test_of_a_run_of_another_release_what_its_states_tell() -> None:
    found = phases(None, [state("Submitted", 1), state("Running", 3), state("Failed", 8)], StoredTimes(), None)
    assert [step.phase for step in found if step.at is not None] == ["claimed", "started", "ended"]
    assert {step.phase for step in found} == set(STEPS)


def test_times_from_outside_are_checked() -> None:
    assert known_phases({"code": 5, "asked": "6", "intent": float("nan"), "recorded": 1e30, "more": 1}) == (
        ("code", 5.0),
    )
    assert known_phases(None) == known_phases([1]) == ()

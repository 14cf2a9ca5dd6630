"""When a running run counts as stuck."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.story.live import RunFigures
from flowherd.story.stuck import may_be_stuck, stuck_reason

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=timezone.utc)


def reason(state: str = "Running", *, since_s: float = 7200, usual_s: float | None = None, **figures: Any) -> str:
    found = RunFigures(id="x", at=NOW.timestamp(), **figures) if figures else None
    text = stuck_reason(state, NOW - timedelta(seconds=since_s), found, usual_s, NOW)
    assert may_be_stuck(state, found) or not text
    return text


def ago(seconds: float) -> float:
    return NOW.timestamp() - seconds


@pytest.mark.parametrize(
    ("idle_s", "line_s", "usual_s", "is_stuck"),
    [
        (660, 660, None, True),
        (540, 660, None, False),
        (660, 540, None, False),
        (660, 660, 60.0, True),
        (660, 660, 300.0, False),
        (960, 960, 300.0, True),
    ],
    ids=["quiet", "has computed", "has written", "usually short", "usually long", "longer than usual"],
)
def test_quiet_for_ten_minutes_and_three_times_the_usual(
    idle_s: float, line_s: float, usual_s: float | None, is_stuck: bool
) -> None:
    text = reason(idle_since=ago(idle_s), last_line_at=ago(line_s), usual_s=usual_s)
    assert bool(text) is is_stuck
    if is_stuck:
        assert text.startswith(f"no output and less than 1% CPU for {idle_s // 60:.0f} m")


def test_nothing_is_said_of_a_run_whose_figures_are_not_known() -> None:
    assert reason() == ""
    assert reason(memory_bytes=5) == ""
    assert reason(last_line_at=ago(5000)) == "", "it may compute"


@pytest.mark.parametrize(("since_s", "grace_s", "is_stuck"), [(15, 10, False), (25, 10, True), (25, 60, False)])
def test_cancelling_for_longer_than_its_grace_time(since_s: float, grace_s: float, is_stuck: bool) -> None:
    assert bool(reason("Cancelling", since_s=since_s, grace_s=grace_s)) is is_stuck


@pytest.mark.parametrize("state", ["Scheduled", "Submitted", "Success", "Failed"])
def test_other_states_are_never_stuck(state: str) -> None:
    assert reason(state, idle_since=ago(9000), last_line_at=ago(9000)) == ""

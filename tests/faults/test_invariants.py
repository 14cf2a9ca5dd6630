"""The kit's own judgement: each kind of broken promise is seen, and a true run is not blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.evidence import Facts, Identity, Stored
from tests.faults.invariants import Kills, check

FLOW, RUNNER = Identity(1, 1), Identity(2, 1)
TRUE = Stored(
    run_id="r",
    parameters={},
    state="Success",
    message="The flow process exited with code 0.",
    reason="exited",
    history=["Scheduled", "Submitted", "Running", "Success"],
    lines=[0, 1, 2],
    notices=["Success: it did."],
)


def facts(*, starts: int = 1, lines: tuple[int, ...] = (0, 1, 2), end: str | None = "ok") -> Facts:
    return Facts(flows=[FLOW] * starts, runners=[RUNNER] * starts, lines=list(lines), end=end)


def kinds(stored: Stored, found: Facts, kills: Kills | None = None) -> set[str]:
    return {violation.kind for violation in check(stored, found, kills or Kills())}


def test_a_true_run_breaks_nothing() -> None:
    assert kinds(TRUE, facts()) == set()


@pytest.mark.parametrize(
    ("stored", "found", "kind"),
    [
        (replace(TRUE, state="Running", history=TRUE.history[:3]), facts(), "lost"),
        (TRUE, Facts(), "lost"),
        (TRUE, facts(starts=2), "doubled"),
        (replace(TRUE, history=[*TRUE.history, "Failed"]), facts(), "doubled"),
        (replace(TRUE, history=["Submitted", *TRUE.history]), facts(), "doubled"),
        (TRUE, facts(end="code"), "wrong cause"),
        (replace(TRUE, state="Failed", reason="lost", message="lost"), facts(), "wrong cause"),
        (replace(TRUE, lines=[0, 2]), facts(), "log lines lost"),
        (replace(TRUE, notices=[]), facts(), "log lines lost"),
        (replace(TRUE, lines=[0, 1, 1, 2]), facts(), "log lines doubled"),
        (replace(TRUE, notices=[*TRUE.notices] * 2), facts(), "log lines doubled"),
        (replace(TRUE, lines=[1, 0, 2]), facts(), "log lines out of order"),
    ],
)
def test_a_broken_promise_is_named(stored: Stored, found: Facts, kind: str) -> None:
    assert kind in kinds(stored, found)


def test_a_killed_runner_may_cost_the_lines_at_the_end_and_no_others() -> None:
    lost = replace(TRUE, state="Failed", reason="lost", message="lost", history=["Submitted", "Failed"])
    killed = Kills(runner=True)
    assert kinds(replace(lost, lines=[0, 1]), facts(end=None), killed) == set()
    assert kinds(replace(lost, lines=[0, 2]), facts(end=None), killed) == {"log lines lost"}


def test_a_killed_flow_must_be_told_with_its_signal() -> None:
    told = replace(TRUE, state="Failed", reason="signal", message="killed by SIGTERM")
    assert kinds(told, facts(end=None), Kills(flow=["SIGTERM"])) == set()
    assert kinds(told, facts(end=None), Kills(flow=["SIGKILL"])) == {"wrong cause"}

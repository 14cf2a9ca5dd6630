"""The kit's own judgement: each kind of broken promise is seen, and a true run is not blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.evidence import Facts, Identity, Stored
from tests.faults.invariants import Kills, attribute_points, check
from tests.faults.sides.embedded import EmbeddedRules

FLOW, RUNNER = Identity(1, 1), Identity(2, 1)
TRUE = Stored(
    run_id="r",
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
    return {violation.kind for violation in check(EmbeddedRules(), stored, found, kills or Kills())}


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


def test_a_kill_may_be_told_as_probably_the_kernels_only_when_the_kernel_killed_somebody_of_the_host() -> None:
    told = replace(TRUE, state="Failed", reason="oom_killer", message="killed by SIGKILL (probable: ...)")
    assert kinds(told, facts(end=None), Kills(flow=["SIGKILL"], oom_on_host=True)) == set()
    assert kinds(told, facts(end=None), Kills(flow=["SIGKILL"])) == {"wrong cause"}
    assert kinds(told, facts(end=None), Kills(flow=["SIGTERM"], oom_on_host=True)) == {"wrong cause"}


def test_a_death_at_a_point_is_its_own_runs_whichever_run_is_looked_at_first() -> None:
    """One runner died before any code of its run, another after: neither is given the death of the other."""
    found = {"never ran": Facts(), "ran": facts()}
    kills = {"never ran": Kills(), "ran": Kills()}
    unknown = Identity(7, 7)
    left = attribute_points([("runner-after-go", RUNNER), ("runner-at-birth", unknown)], found, kills)
    assert kills == {"never ran": Kills(runner=True), "ran": Kills(runner=True)}
    assert left == []


def test_a_process_that_has_the_pid_of_one_that_died_at_a_point_is_not_taken_for_it() -> None:
    kills = {"ran": Kills()}
    namesake = ("runner-after-go", Identity(RUNNER.pid, RUNNER.ticks + 1))
    assert attribute_points([namesake], {"ran": facts()}, kills) == [namesake]
    assert kills == {"ran": Kills()}

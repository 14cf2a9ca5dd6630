"""The kit's judgement of runs at a work pool: what is true there is not blamed, and what is not is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.evidence import Facts, Identity, Stored
from tests.faults.invariants import Kills, check
from tests.faults.sides.prefect3 import COMMAND, DIRECT, THROUGH, Prefect3Rules

FLOW, RUNNER = Identity(1, 1), Identity(2, 1)
TRUE = Stored(
    run_id="r",
    sort=DIRECT,
    state="COMPLETED",
    message="",
    reason=None,
    history=["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"],
    lines=[0, 1],
    notices=["The flow process exited with code 0."],
)
CRASHED = replace(TRUE, state="CRASHED", message="killed by SIGKILL", history=[*TRUE.history[:3], "CRASHED"])
CANCELLED = replace(TRUE, state="CANCELLED", history=[*TRUE.history[:3], "CANCELLING", "CRASHED", "CANCELLED"])
UNHEARD = replace(CRASHED, message="Request to http://127.0.0.1/api failed: ConnectError")


def facts(end: str | None = "ok", starts: int = 1) -> Facts:
    return Facts(flows=[FLOW] * starts, runners=[RUNNER] * starts, lines=[0, 1], end=end)


def kinds(stored: Stored, found: Facts, kills: Kills | None = None) -> set[str]:
    return {violation.kind for violation in check(Prefect3Rules(), stored, found, kills or Kills())}


@pytest.mark.parametrize(
    ("stored", "found", "kills"),
    [
        (TRUE, facts(), Kills()),
        (CRASHED, facts(None), Kills(flow=["SIGKILL"])),
        (replace(TRUE, history=["SCHEDULED", "PENDING", *TRUE.history[1:], "COMPLETED"]), facts(), Kills()),
        (CANCELLED, facts("hang"), Kills(cancelled=True)),
        (UNHEARD, facts(None), Kills(server_away=True)),
        (replace(UNHEARD, sort=THROUGH), facts(None), Kills(storm=True)),
        (replace(CRASHED, sort=COMMAND, message="exited with code 3."), facts("code"), Kills()),
        (replace(CANCELLED, history=["SCHEDULED", "CANCELLED"], notices=[], lines=[]), Facts(), Kills(cancelled=True)),
    ],
)
def test_what_is_true_of_a_run_is_not_blamed(stored: Stored, found: Facts, kills: Kills) -> None:
    assert kinds(stored, found, kills) == set()


@pytest.mark.parametrize(
    ("stored", "found", "kills", "kind"),
    [
        (replace(TRUE, state="PENDING", history=TRUE.history[:2]), facts(None), Kills(), "lost"),
        (replace(TRUE, state="CANCELLING"), facts("hang"), Kills(cancelled=True), "lost"),
        (TRUE, Facts(), Kills(), "lost"),
        (TRUE, facts(starts=2), Kills(), "doubled"),
        (replace(TRUE, history=["SCHEDULED", "PENDING", *TRUE.history[1:]]), facts(), Kills(), "doubled"),
        (replace(TRUE, history=[*TRUE.history[:3], *TRUE.history[2:]]), facts(), Kills(), "doubled"),
        (replace(TRUE, history=[*TRUE.history, "CRASHED"]), facts(), Kills(), "doubled"),
        (CANCELLED, facts("hang"), Kills(), "doubled"),
        (TRUE, facts("raise"), Kills(), "wrong cause"),
        (CRASHED, facts(None), Kills(flow=["SIGTERM"]), "wrong cause"),
        (UNHEARD, facts(None), Kills(storm=True), "wrong cause"),
        (replace(UNHEARD, sort=COMMAND), facts(None), Kills(server_away=True), "wrong cause"),
        (replace(TRUE, notices=[]), facts(), Kills(), "log lines lost"),
    ],
)
def test_a_promise_broken_at_a_work_pool_is_named(stored: Stored, found: Facts, kills: Kills, kind: str) -> None:
    assert kind in kinds(stored, found, kills)

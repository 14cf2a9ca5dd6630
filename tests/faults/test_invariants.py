"""The kit's own judgement: each kind of broken promise is seen, and a true run is not blamed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.faults.backends.embedded import EmbeddedRules
from tests.faults.backends.prefect3 import COMMAND, DIRECT, THROUGH, Prefect3Rules
from tests.faults.evidence import Facts, Identity, StoredRun
from tests.faults.invariants import Rules, RunFaults, attribute_points, check

FLOW, RUNNER = Identity(1, 1), Identity(2, 1)
EMBEDDED, POOL = EmbeddedRules(), Prefect3Rules()
#: A true run at the embedded server.
TRUE = StoredRun(
    run_id="r",
    state="Success",
    message="The flow process exited with code 0.",
    reason="exited",
    history=["Scheduled", "Submitted", "Running", "Success"],
    lines=[0, 1, 2],
    notices=["Success: it did."],
)
#: True runs at a work pool.
COMPLETED = StoredRun(
    run_id="r",
    sort=DIRECT,
    state="COMPLETED",
    message="",
    reason=None,
    history=["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"],
    lines=[0, 1, 2],
    notices=["The flow process exited with code 0."],
)
CRASHED = replace(COMPLETED, state="CRASHED", message="killed by SIGKILL", history=[*COMPLETED.history[:3], "CRASHED"])
CANCELLED = replace(
    COMPLETED, state="CANCELLED", history=[*COMPLETED.history[:3], "CANCELLING", "CRASHED", "CANCELLED"]
)
UNHEARD = replace(CRASHED, message="Request to http://127.0.0.1/api failed: ConnectError")
NO_FAULTS = RunFaults()


def facts(end: str | None = "ok", *, starts: int = 1, lines: tuple[int, ...] = (0, 1, 2)) -> Facts:
    return Facts(flows=[FLOW] * starts, runners=[RUNNER] * starts, lines=list(lines), end=end)


def kinds(rules: Rules, stored: StoredRun, found: Facts, run_faults: RunFaults = NO_FAULTS) -> set[str]:
    return {violation.kind for violation in check(rules, stored, found, run_faults)}


@pytest.mark.parametrize(
    ("rules", "stored", "found", "run_faults"),
    [
        (EMBEDDED, TRUE, facts(), NO_FAULTS),
        (POOL, COMPLETED, facts(), NO_FAULTS),
        (POOL, CRASHED, facts(None), RunFaults(flow_signals=["SIGKILL"])),
        (
            POOL,
            replace(COMPLETED, history=["SCHEDULED", "PENDING", *COMPLETED.history[1:], "COMPLETED"]),
            facts(),
            NO_FAULTS,
        ),
        (POOL, CANCELLED, facts("hang"), RunFaults(cancelled=True)),
        (POOL, UNHEARD, facts(None), RunFaults(server_away=True)),
        (POOL, replace(UNHEARD, sort=THROUGH), facts(None), RunFaults(network_faults=True)),
        (POOL, replace(CRASHED, sort=COMMAND, message="exited with code 3."), facts("code"), NO_FAULTS),
        (
            POOL,
            replace(CANCELLED, history=["SCHEDULED", "CANCELLED"], notices=[], lines=[]),
            Facts(),
            RunFaults(cancelled=True),
        ),
    ],
)
def test_a_true_run_breaks_nothing(rules: Rules, stored: StoredRun, found: Facts, run_faults: RunFaults) -> None:
    assert kinds(rules, stored, found, run_faults) == set()


@pytest.mark.parametrize(
    ("stored", "found", "kind"),
    [
        (replace(TRUE, state="Running", history=TRUE.history[:3]), facts(), "lost"),
        (TRUE, Facts(), "lost"),
        (TRUE, facts(starts=2), "doubled"),
        (replace(TRUE, history=[*TRUE.history, "Failed"]), facts(), "doubled"),
        (replace(TRUE, history=["Submitted", *TRUE.history]), facts(), "doubled"),
        (TRUE, facts("code"), "wrong cause"),
        (replace(TRUE, state="Failed", reason="lost", message="lost"), facts(), "wrong cause"),
        (replace(TRUE, lines=[0, 2]), facts(), "log lines lost"),
        (replace(TRUE, notices=[]), facts(), "log lines lost"),
        (replace(TRUE, lines=[0, 1, 1, 2]), facts(), "log lines doubled"),
        (replace(TRUE, notices=[*TRUE.notices] * 2), facts(), "log lines doubled"),
        (replace(TRUE, lines=[1, 0, 2]), facts(), "log lines out of order"),
    ],
)
def test_a_broken_promise_is_named(stored: StoredRun, found: Facts, kind: str) -> None:
    assert kind in kinds(EMBEDDED, stored, found)


@pytest.mark.parametrize(
    ("stored", "found", "run_faults", "kind"),
    [
        (replace(COMPLETED, state="PENDING", history=COMPLETED.history[:2]), facts(None), NO_FAULTS, "lost"),
        (replace(COMPLETED, state="CANCELLING"), facts("hang"), RunFaults(cancelled=True), "lost"),
        (COMPLETED, Facts(), NO_FAULTS, "lost"),
        (COMPLETED, facts(starts=2), NO_FAULTS, "doubled"),
        (replace(COMPLETED, history=["SCHEDULED", "PENDING", *COMPLETED.history[1:]]), facts(), NO_FAULTS, "doubled"),
        (replace(COMPLETED, history=[*COMPLETED.history[:3], *COMPLETED.history[2:]]), facts(), NO_FAULTS, "doubled"),
        (replace(COMPLETED, history=[*COMPLETED.history, "CRASHED"]), facts(), NO_FAULTS, "doubled"),
        (CANCELLED, facts("hang"), NO_FAULTS, "doubled"),
        (COMPLETED, facts("raise"), NO_FAULTS, "wrong cause"),
        (CRASHED, facts(None), RunFaults(flow_signals=["SIGTERM"]), "wrong cause"),
        (UNHEARD, facts(None), RunFaults(network_faults=True), "wrong cause"),
        (replace(UNHEARD, sort=COMMAND), facts(None), RunFaults(server_away=True), "wrong cause"),
        (replace(COMPLETED, notices=[]), facts(), NO_FAULTS, "log lines lost"),
    ],
)
def test_a_promise_broken_at_a_work_pool_is_named(
    stored: StoredRun, found: Facts, run_faults: RunFaults, kind: str
) -> None:
    assert kind in kinds(POOL, stored, found, run_faults)


def test_a_killed_runner_may_cost_the_lines_at_the_end_and_no_others() -> None:
    lost = replace(TRUE, state="Failed", reason="lost", message="lost", history=["Submitted", "Failed"])
    killed = RunFaults(runner_killed=True)
    assert kinds(EMBEDDED, replace(lost, lines=[0, 1]), facts(None), killed) == set()
    assert kinds(EMBEDDED, replace(lost, lines=[0, 2]), facts(None), killed) == {"log lines lost"}


def test_a_killed_flow_must_be_reported_with_its_signal() -> None:
    reported = replace(TRUE, state="Failed", reason="signal", message="killed by SIGTERM")
    assert kinds(EMBEDDED, reported, facts(None), RunFaults(flow_signals=["SIGTERM"])) == set()
    assert kinds(EMBEDDED, reported, facts(None), RunFaults(flow_signals=["SIGKILL"])) == {"wrong cause"}


def test_a_kill_may_be_reported_as_probably_the_kernels_only_when_the_kernel_killed_a_process_of_the_host() -> None:
    reported = replace(TRUE, state="Failed", reason="oom_killer", message="killed by SIGKILL (probable: ...)")
    killed, terminated = RunFaults(flow_signals=["SIGKILL"]), RunFaults(flow_signals=["SIGTERM"], oom_on_host=True)
    assert kinds(EMBEDDED, reported, facts(None), replace(killed, oom_on_host=True)) == set()
    assert kinds(EMBEDDED, reported, facts(None), killed) == {"wrong cause"}
    assert kinds(EMBEDDED, reported, facts(None), terminated) == {"wrong cause"}


def test_a_death_at_a_point_belongs_to_its_own_run_in_any_order_of_the_runs() -> None:
    """One runner died before any code of its run, another after: neither run gets the death of the other."""
    found = {"never ran": Facts(), "ran": facts()}
    run_faults = {"never ran": RunFaults(), "ran": RunFaults()}
    unknown = Identity(7, 7)
    left = attribute_points([("runner-after-go", RUNNER), ("runner-at-birth", unknown)], found, run_faults)
    assert run_faults == {"never ran": RunFaults(runner_killed=True), "ran": RunFaults(runner_killed=True)}
    assert left == []


def test_a_process_that_has_the_pid_of_one_that_died_at_a_point_is_not_taken_for_it() -> None:
    run_faults = {"ran": RunFaults()}
    namesake = ("runner-after-go", Identity(RUNNER.pid, RUNNER.ticks + 1))
    assert attribute_points([namesake], {"ran": facts()}, run_faults) == [namesake]
    assert run_faults == {"ran": RunFaults()}

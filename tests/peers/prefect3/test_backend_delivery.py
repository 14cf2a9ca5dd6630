"""The Prefect 3 backend at a real server: reports of states, and logs."""

from __future__ import annotations

import uuid
from datetime import datetime, timezone

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.errors import BackendRefused, ClaimLost
from flowherd.states import RunState
from flowherd.values import StateReport
from tests.peers.prefect3.pool_backend import claimed, line, new_backend, ready, report, states
from tests.peers.prefect3.prefect_server import PrefectServer

#: The server takes long to start on a busy machine.
pytestmark = pytest.mark.timeout(300)


# -- reports


def test_running_is_the_engines_to_say_and_only_the_pid_is_told(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    backend.report(report(run_id, RunState.RUNNING, pid=77))
    row = prefect.run(run_id)
    assert (row["state"]["type"], row["infrastructure_pid"], row["run_count"]) == ("PENDING", "77", 0)
    assert row["labels"]["prefect.worker.name"].startswith("tester@")


def test_what_is_only_for_show_fails_nothing(backend: Prefect3Backend) -> None:
    backend.report(report(str(uuid.uuid4()), RunState.RUNNING, pid=77))


def test_a_run_that_died_is_crashed_with_the_cause(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    prefect.set_state(run_id, "RUNNING")
    crash = report(run_id, RunState.FAILED)
    for _ in range(2):
        backend.report(crash)
    row = prefect.run(run_id)
    assert (row["state"]["type"], row["state"]["message"]) == ("CRASHED", "now Failed")
    assert states(prefect, run_id).count("CRASHED") == 1


def test_an_end_that_is_told_late_says_when_it_was(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    backend.report(StateReport(flow_run_id=run_id, state=RunState.FAILED, message="Killed.", at=at, claim="mine"))
    assert prefect.run(run_id)["state"]["message"] == "Killed. (at 2026-01-02 03:04:05 UTC, reported later)"


@pytest.mark.parametrize("ended", ["COMPLETED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("reported", [RunState.FAILED, RunState.CANCELLED, RunState.SUCCESS])
def test_an_end_that_the_engine_told_stands(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str, ended: str, reported: RunState
) -> None:
    run_id = claimed(prefect, backend, deployment)
    prefect.set_state(run_id, "RUNNING")
    prefect.set_state(run_id, ended)
    try:
        backend.report(report(run_id, reported))
    except ClaimLost:
        pass
    assert prefect.state(run_id) == ended


@pytest.mark.parametrize("reported", [RunState.CANCELLED, RunState.FAILED])
def test_a_run_that_is_being_cancelled_ends_as_cancelled(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str, reported: RunState
) -> None:
    run_id = claimed(prefect, backend, deployment)
    prefect.set_state(run_id, "RUNNING")
    assert prefect.set_state(run_id, "CANCELLING") == "ACCEPT"
    assert backend.stored_states([run_id])[run_id].state is RunState.CANCELLING
    backend.report(report(run_id, reported))
    assert prefect.state(run_id) == "CANCELLED"


def test_cancelled_is_told_over_a_crash_that_the_dying_engine_forced(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    for state, force in (("RUNNING", False), ("CANCELLING", False), ("CRASHED", True)):
        prefect.set_state(run_id, state, force)
    standing = backend.run_at_backend(run_id)
    assert standing is not None and standing.state is RunState.CANCELLING  # so that the agent tells the end at all
    backend.report(report(run_id, RunState.CANCELLED))
    assert prefect.state(run_id) == "CANCELLED"


def test_a_suspended_or_rescheduled_run_is_not_ended_by_its_old_process(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    prefect.set_state(run_id, "RUNNING")
    prefect.set_state(run_id, "PAUSED", name="Suspended", state_details={"pause_reschedule": True})
    assert backend.stored_states([run_id])[run_id].state is RunState.PAUSED
    with pytest.raises(ClaimLost, match="waits to be started again"):
        backend.report(report(run_id, RunState.FAILED))
    prefect.set_state(run_id, "SCHEDULED", True, name="Resuming")
    assert backend.stored_states([run_id])[run_id].state is RunState.RESUME
    with pytest.raises(ClaimLost):
        backend.report(report(run_id, RunState.FAILED))
    backend.claim(ready(backend, run_id), f"{uuid.uuid4().hex}/{run_id}")
    with pytest.raises(ClaimLost, match="another"):
        backend.report(report(run_id, RunState.FAILED))
    assert prefect.state(run_id) == "PENDING"


def test_reports_and_questions_about_unknown_runs(backend: Prefect3Backend) -> None:
    unknown = str(uuid.uuid4())
    assert backend.stored_states([unknown]) == {} and backend.run_at_backend(unknown) is None
    with pytest.raises(BackendRefused):
        backend.report(report(unknown, RunState.FAILED))


# -- logs


def test_lines_are_kept_in_order_and_once_when_they_are_sent_again(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str, deployment: str
) -> None:
    run_id, at = prefect.add_run(deployment), datetime.now(timezone.utc)
    backend.write_logs([line(run_id, n, at) for n in range(10)])
    later = new_backend(prefect, pool)
    later.write_logs([line(run_id, n, at) for n in range(5, 15)])
    assert [row["message"] for row in prefect.log(run_id)] == [f"line {n}" for n in range(15)]
    later.close()


def test_lines_of_subflows_are_their_own_flow_runs_and_kept_once_too(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str, deployment: str
) -> None:
    run_id, subflows, at = (
        prefect.add_run(deployment),
        [str(uuid.uuid4()) for _ in range(2)],
        datetime.now(timezone.utc),
    )
    owners = [None, *subflows]
    lines = [line(run_id, n, at, subflow_run_id=owners[n % 3]) for n in range(15)]
    backend.write_logs(lines[:9])
    later = new_backend(prefect, pool)
    later.write_logs(lines[3:])
    for first, owner in enumerate([run_id, *subflows]):
        assert [row["message"] for row in prefect.log(owner)] == [f"line {n}" for n in range(first, 15, 3)]
    later.close()


def test_raw_output_is_marked_by_its_loggers_name(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id, at = prefect.add_run(deployment), datetime.now(timezone.utc)
    backend.write_logs(
        [
            line(run_id, 1, at, stream="stdout", logger="stdout"),
            line(run_id, 2, at, stream="stderr", logger="stderr", level=40),
            line(run_id, 3, at, stream="flowherd", logger="flowherd"),
            line(run_id, 4, at, logger="prefect.flow_runs", level=25, message="half \ud800 and \0"),
        ]
    )
    rows = [(row["name"], row["level"], row["message"]) for row in prefect.log(run_id)]
    assert rows == [
        ("flowherd.stdout", 20, "line 1"),
        ("flowherd.stderr", 40, "line 2"),
        ("flowherd", 20, "line 3"),
        ("prefect.flow_runs", 25, "half \\ud800 and \\x00"),
    ]


def test_a_flood_of_lines_is_cut_into_requests(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id, at = prefect.add_run(deployment), datetime.now(timezone.utc)
    backend.write_logs([line(run_id, n, at, message=f"{n} " + "x" * 100_000) for n in range(30)])
    assert [int(row["message"].split()[0]) for row in prefect.log(run_id)] == list(range(30))

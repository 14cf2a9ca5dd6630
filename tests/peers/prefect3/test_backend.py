"""The Prefect 3 backend against a real server: what other backends promise too, and what is this one's own."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost
from flowherd.states import RunState
from flowherd.values import AgentIdentity, FlowRun, LogLine, StateReport, Wake
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.waiting import wait_until

#: The server takes long to start on a busy machine.
pytestmark = pytest.mark.timeout(300)

_numbers = itertools.count()
IDENTITY = AgentIdentity(type="Test", name="tester", labels=("ignored",))


@pytest.fixture
def pool() -> str:
    return f"pool {next(_numbers)}"


@pytest.fixture
def backend(prefect: PrefectServer, pool: str) -> Iterator[Prefect3Backend]:
    backend = new_backend(prefect, pool)
    backend.connect()
    backend.register(IDENTITY)
    yield backend
    backend.close()


def new_backend(prefect: PrefectServer, pool: str, queues: list[str] | None = None, **facts: Any) -> Prefect3Backend:
    transport = Prefect3Transport(prefect.api, timeout_s=20)
    return Prefect3Backend(transport, WorkPool(transport, pool, queues or ()), **facts)


@pytest.fixture
def deployment(prefect: PrefectServer, pool: str, backend: Prefect3Backend) -> str:
    return prefect.add_deployment(pool)


def ready(backend: Prefect3Backend, run_id: str) -> FlowRun:
    return next(run for run in backend.ready_runs([], ()) if run.id == run_id)


def claimed(prefect: PrefectServer, backend: Prefect3Backend, deployment: str, token: str = "mine") -> str:
    run_id = prefect.add_run(deployment)
    backend.claim(ready(backend, run_id), token)
    return run_id


def report(run_id: str, state: RunState, claim: str = "mine", **facts: Any) -> StateReport:
    return StateReport(
        flow_run_id=run_id, state=state, message=f"now {state}", at=datetime.now(timezone.utc), claim=claim, **facts
    )


def line(run_id: str, number: int, at: datetime, **facts: Any) -> LogLine:
    given = {"stream": "log", "level": 20, "logger": "mine", "message": f"line {number}", **facts}
    return LogLine(flow_run_id=run_id, at=at + timedelta(microseconds=number), line_id=str(number), **given)


# -- the pool and its worker


def test_it_makes_the_process_pool_and_its_queues_and_is_shown_online(prefect: PrefectServer, pool: str) -> None:
    backend = new_backend(prefect, pool, ["fast", "slow"], worker_name="herd one")
    assert "3.8.5" in backend.connect().name
    assert backend.register(IDENTITY) == "herd one"
    made = prefect.ask("GET", f"/work_pools/{pool}")
    assert (made["type"], sorted(made["base_job_template"])) == ("process", ["job_configuration", "variables"])
    queues = prefect.ask("POST", f"/work_pools/{pool}/queues/filter", {})
    assert {queue["name"] for queue in queues} == {"default", "fast", "slow"}
    workers = prefect.ask("POST", f"/work_pools/{pool}/workers/filter", {})
    assert [(worker["name"], worker["status"]) for worker in workers] == [("herd one", "ONLINE")]
    backend.close()


def test_a_pool_of_another_type_is_refused(prefect: PrefectServer, pool: str) -> None:
    prefect.add_pool(pool, type="docker")
    backend = new_backend(prefect, pool)
    with pytest.raises(BackendRefused, match="of type 'docker'"):
        backend.connect()
    backend.close()


def test_a_pool_that_is_not_to_be_made_is_refused(prefect: PrefectServer, pool: str) -> None:
    transport = Prefect3Transport(prefect.api)
    backend = Prefect3Backend(transport, WorkPool(transport, pool, create=False))
    with pytest.raises(BackendRefused, match="there is no work pool"):
        backend.connect()
    backend.close()


def test_a_pool_that_is_deleted_is_made_again(prefect: PrefectServer, backend: Prefect3Backend, pool: str) -> None:
    prefect.ask("DELETE", f"/work_pools/{pool}")
    with pytest.raises(BackendUnavailable, match="is gone"):
        backend.ready_runs([], ())
    assert backend.ready_runs([], ()) == []
    assert prefect.ask("GET", f"/work_pools/{pool}")["name"] == pool


def test_the_events_of_a_pool_that_was_made_again_wake_too(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str
) -> None:
    backend.wait_for_wake(0, 0.1)
    prefect.ask("DELETE", f"/work_pools/{pool}")
    with pytest.raises(BackendUnavailable):
        backend.ready_runs([], ())
    seen = backend.wait_for_wake(0, 0.1)
    seen = backend.wait_for_wake(seen.sequence, 0.3)
    prefect.add_run(prefect.add_deployment(pool))
    woken(backend, seen)


# -- the poll


def test_a_listed_run_carries_what_is_needed_to_start_it(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str
) -> None:
    prefect.ask("POST", "/variables/", {"name": f"where_{pool[5:]}", "value": "/data"})
    steps = [{"prefect.deployments.steps.set_working_directory": {"directory": "/flows"}}]
    variables = {
        "env": {"A": "1", "WHERE": f"{{{{ prefect.variables.where_{pool[5:]} }}}}/x", "GONE": None},
        "working_dir": "/work",
        "stream_output": False,
    }
    deployment = prefect.add_deployment(pool, job_variables=variables, pull_steps=steps, parameters={"x": 1})
    run_id = prefect.add_run(deployment, parameters={"y": [2]}, job_variables={"env": {"B": "2"}})
    run = ready(backend, run_id)
    assert (run.state, run.parameters) == (RunState.SCHEDULED, {"x": 1, "y": [2]})
    assert run.flow.storage["type"] == "Prefect3"
    assert (run.flow.storage["entrypoint"], run.flow.storage["pull_steps"]) == ("flows.py:main", steps)
    assert run.run_config is not None
    assert (run.run_config["working_dir"], run.run_config["stream_output"]) == ("/work", False)
    env = run.run_config["env"]
    assert {"A": "1", "B": "2", "WHERE": "/data/x", "PREFECT__FLOW_RUN_ID": run_id}.items() <= env.items()
    assert env["PREFECT_API_URL"] == prefect.api and "GONE" not in env


def test_a_run_whose_job_variables_cannot_be_used_says_so(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str
) -> None:
    env = {"A": "{{ prefect.blocks.secret.not-there }}"}
    run_id = prefect.add_run(prefect.add_deployment(pool, job_variables={"env": env}))
    assert "no block secret/not-there" in ready(backend, run_id).flow.storage["refused"]


def test_runs_come_by_queue_priority_and_from_the_named_queues_only(prefect: PrefectServer, pool: str) -> None:
    backend = new_backend(prefect, pool, ["high", "low"])
    backend.connect()
    for name, priority in (("low", 7), ("high", 3)):
        prefect.ask("PATCH", f"/work_pools/{pool}/queues/{name}", {"priority": priority})
    runs = {
        queue: prefect.add_run(prefect.add_deployment(pool, f"of {queue}", work_queue_name=queue))
        for queue in ("default", "low", "high")
    }
    assert [run.id for run in backend.ready_runs([], ())] == [runs["high"], runs["low"]]
    backend.close()


@pytest.mark.parametrize("paused", ["pool", "queue"])
def test_nothing_comes_of_what_is_paused(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str, deployment: str, paused: str
) -> None:
    prefect.add_run(deployment)
    path = f"/work_pools/{pool}" + ("/queues/default" if paused == "queue" else "")
    prefect.ask("PATCH", path, {"is_paused": True})
    assert backend.ready_runs([], ()) == []


def test_no_more_come_than_the_pool_lets_go(prefect: PrefectServer, backend: Prefect3Backend, pool: str) -> None:
    prefect.ask("PATCH", f"/work_pools/{pool}", {"concurrency_limit": 2})
    deployment = prefect.add_deployment(pool)
    runs = [prefect.add_run(deployment) for _ in range(3)]
    listed = backend.ready_runs([], ())
    assert [run.id for run in listed] == runs[:2]
    backend.claim(listed[0], "mine")
    assert [run.id for run in backend.ready_runs([], ())] == [runs[1]]


def test_runs_in_the_exclusion_are_not_listed(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = prefect.add_run(deployment)
    assert backend.ready_runs([], {run_id}) == []


def test_a_run_is_neither_listed_nor_claimed_before_it_is_due(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = prefect.add_run(deployment)
    run = ready(backend, run_id)
    soon = (datetime.now(timezone.utc) + timedelta(seconds=8)).isoformat()
    prefect.set_state(run_id, "SCHEDULED", state_details={"scheduled_time": soon})
    assert backend.ready_runs([], ()) == []
    with pytest.raises(ClaimLost, match="not due"):
        backend.claim(run, "mine")
    assert prefect.state(run_id) == "SCHEDULED"


# -- the claim


def test_a_claimed_run_is_not_listed_and_not_claimed_by_another(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run = ready(backend, prefect.add_run(deployment))
    backend.claim(run, "mine")
    assert backend.ready_runs([], ()) == []
    with pytest.raises(ClaimLost):
        backend.claim(run, "another's")
    stored = backend.stored_states([run.id])[run.id]
    assert (stored.state, stored.claim) == (RunState.SUBMITTED, "mine")


def test_a_claim_is_recognised_by_a_later_agent_and_claiming_again_is_a_success(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str, deployment: str
) -> None:
    run = ready(backend, prefect.add_run(deployment))
    token = f"{uuid.uuid4().hex}/{run.id}"
    backend.claim(run, token)
    later = new_backend(prefect, pool)
    assert later.stored_states([run.id])[run.id].claim == token
    later.claim(run, token)
    assert [state["type"] for state in states(prefect, run.id)] == ["SCHEDULED", "PENDING"]
    later.close()


def states(prefect: PrefectServer, run_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    return sorted(rows, key=lambda row: str(row["timestamp"]))


def test_of_six_simultaneous_claimers_one_wins(prefect: PrefectServer, pool: str, deployment: str) -> None:
    claimers = [new_backend(prefect, pool) for _ in range(6)]
    for _ in range(3):
        run = ready(claimers[0], prefect.add_run(deployment))
        won: list[str] = []
        gate = threading.Barrier(len(claimers))

        def claim(number: int, run: FlowRun = run, won: list[str] = won, gate: threading.Barrier = gate) -> None:
            token = f"{uuid.uuid4().hex}/{run.id}"
            gate.wait()
            try:
                claimers[number].claim(run, token)
            except ClaimLost:
                return
            won.append(token)

        threads = [threading.Thread(target=claim, args=(number,)) for number in range(len(claimers))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert claimers[0].stored_states([run.id])[run.id].claim == won[0]
    for claimer in claimers:
        claimer.close()


def test_a_run_that_finished_since_the_poll_is_not_claimed(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run = ready(backend, prefect.add_run(deployment))
    for state in ("PENDING", "RUNNING", "COMPLETED"):
        prefect.set_state(run.id, state)
    with pytest.raises(ClaimLost, match="COMPLETED"):
        backend.claim(run, "mine")
    assert prefect.state(run.id) == "COMPLETED"


def test_a_run_that_waits_for_a_try_within_its_process_is_not_claimed_and_counts_as_running(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = prefect.add_run(deployment)
    run = ready(backend, run_id)
    prefect.ask("PATCH", f"/flow_runs/{run_id}", {"empirical_policy": {"retries": 3, "retry_delay": 0}})
    for state in ("PENDING", "RUNNING", "FAILED"):
        prefect.set_state(run_id, state)
    assert prefect.state(run_id) == "SCHEDULED"
    assert backend.ready_runs([], ()) == []
    with pytest.raises(ClaimLost):
        backend.claim(run, "mine")
    assert backend.stored_states([run_id])[run_id].state is RunState.RUNNING
    backend.report(report(run_id, RunState.FAILED))
    assert prefect.state(run_id) == "CRASHED"


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
    told = report(run_id, RunState.FAILED)
    for _ in range(2):
        backend.report(told)
    row = prefect.run(run_id)
    assert (row["state"]["type"], row["state"]["message"]) == ("CRASHED", "now Failed")
    assert [state["type"] for state in states(prefect, run_id)].count("CRASHED") == 1


def test_an_end_that_is_told_late_says_when_it_was(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    backend.report(StateReport(flow_run_id=run_id, state=RunState.FAILED, message="Killed.", at=at, claim="mine"))
    assert prefect.run(run_id)["state"]["message"] == "Killed. (at 2026-01-02 03:04:05 UTC, told later)"


@pytest.mark.parametrize("ended", ["COMPLETED", "FAILED", "CANCELLED"])
@pytest.mark.parametrize("told", [RunState.FAILED, RunState.CANCELLED, RunState.SUCCESS])
def test_an_end_that_the_engine_told_stands(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str, ended: str, told: RunState
) -> None:
    run_id = claimed(prefect, backend, deployment)
    prefect.set_state(run_id, "RUNNING")
    prefect.set_state(run_id, ended)
    try:
        backend.report(report(run_id, told))
    except ClaimLost:
        pass
    assert prefect.state(run_id) == ended


@pytest.mark.parametrize("told", [RunState.CANCELLED, RunState.FAILED])
def test_a_run_that_is_being_cancelled_ends_as_cancelled(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str, told: RunState
) -> None:
    run_id = claimed(prefect, backend, deployment)
    prefect.set_state(run_id, "RUNNING")
    assert prefect.set_state(run_id, "CANCELLING") == "ACCEPT"
    assert backend.stored_states([run_id])[run_id].state is RunState.CANCELLING
    backend.report(report(run_id, told))
    assert prefect.state(run_id) == "CANCELLED"


def test_cancelled_is_told_over_a_crash_that_the_dying_engine_forced(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = claimed(prefect, backend, deployment)
    for state, force in (("RUNNING", False), ("CANCELLING", False), ("CRASHED", True)):
        prefect.set_state(run_id, state, force)
    standing = backend.standing(run_id)
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
    assert backend.stored_states([unknown]) == {} and backend.standing(unknown) is None
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


# -- what is read beforehand


def test_the_engine_is_handed_the_run_and_its_deployment_as_the_server_has_them(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = prefect.add_run(deployment, parameters={"x": 1}, tags=["t"])
    known = (ready(backend, run_id).flow.storage or {})["documents"]
    of_server = prefect.run(run_id)
    differs = {name for name in of_server if of_server[name] != known["flow_run"].get(name)}
    assert differs == {"state", "estimated_start_time_delta"}
    of_server = prefect.ask("GET", f"/deployments/{deployment}")
    differs = {name for name in of_server if of_server[name] != known["deployment"].get(name)}
    assert differs <= {"status", "last_polled", "updated"}  # which the poll itself changes


def test_a_run_that_was_changed_since_it_was_described_is_described_anew(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    run_id = prefect.add_run(deployment, parameters={"x": 1})
    run = ready(backend, run_id)
    prefect.ask("PATCH", f"/flow_runs/{run_id}", {"parameters": {"x": 2}})
    polled_s = time.monotonic()
    wait_until(lambda: time.monotonic() > polled_s + 0.2, what="the poll to be some time ago")
    with pytest.raises(ClaimLost, match="changed since"):
        backend.claim(run, "mine")
    assert prefect.state(run_id) == "SCHEDULED"
    run = ready(backend, run_id)
    backend.claim(run, "mine")
    assert run.parameters == {"x": 2} and prefect.state(run_id) == "PENDING"


def test_a_run_that_is_made_after_a_change_of_its_deployment_is_described_by_the_changed_one(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    first = ready(backend, prefect.add_run(deployment))
    prefect.ask("PATCH", f"/deployments/{deployment}", {"entrypoint": "other.py:main"})
    second = ready(backend, prefect.add_run(deployment))
    entrypoints = [(run.flow.storage or {})["entrypoint"] for run in (first, second)]
    assert entrypoints == ["flows.py:main", "other.py:main"]


# -- wakes


def test_an_agent_is_woken_by_a_due_run_and_by_a_cancelled_one(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    seen = backend.wait_for_wake(0, 1.0)  # the stream is there
    assert seen.work and seen.ends
    run_id = claimed(prefect, backend, deployment)
    seen = woken(backend, seen)
    assert (seen.work, seen.ends) == (True, False)
    prefect.set_state(run_id, "RUNNING")
    prefect.set_state(run_id, "CANCELLING")
    seen = woken(backend, seen)
    assert (seen.work, seen.ends) == (False, True)


def woken(backend: Prefect3Backend, seen: Wake) -> Wake:
    wake = backend.wait_for_wake(seen.sequence, 10.0)
    assert wake.sequence != seen.sequence, "not woken"
    return wake


def test_an_agent_is_woken_when_a_run_that_it_knows_becomes_due(
    prefect: PrefectServer, backend: Prefect3Backend, deployment: str
) -> None:
    due = datetime.now(timezone.utc) + timedelta(seconds=3)
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": due.isoformat()}}
    run_id = prefect.add_run(deployment, state=state)
    assert backend.ready_runs([], ()) == []
    seen, deadline_s = Wake(sequence=0), time.monotonic() + 10
    while not (listed := backend.ready_runs([], ())):  # another event may wake before
        seen = woken(backend, seen)
        assert time.monotonic() < deadline_s
    assert (listed[0].id, datetime.now(timezone.utc) < due + timedelta(seconds=2)) == (run_id, True)


def test_a_wait_without_events_ends_with_its_time(backend: Prefect3Backend) -> None:
    seen = backend.wait_for_wake(0, 0.1).sequence
    assert backend.wait_for_wake(seen, 0.2).sequence == seen


def test_closing_ends_a_wait_in_another_thread(backend: Prefect3Backend) -> None:
    seen = backend.wait_for_wake(0, 0.1).sequence
    ended = threading.Event()

    def wait() -> None:
        try:
            backend.wait_for_wake(seen, 60.0)
        except Exception:  # of whatever kind: it must end
            ended.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not ended.wait(0.05):
        backend.close()
    waiter.join()

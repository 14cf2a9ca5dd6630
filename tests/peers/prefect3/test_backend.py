"""The Prefect 3 backend at a real server: the pool and its worker, the poll, the claim."""

from __future__ import annotations

import threading
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.slot_waits import AWAITING_SLOT
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost
from flowherd.states import RunState
from flowherd.values import FlowRun
from tests.peers.prefect3.pool_backend import IDENTITY, claimed, new_backend, outlast_poll, ready, report, states, woken
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.waiting import wait_until

#: The server takes long to start on a busy machine.
pytestmark = pytest.mark.timeout(300)


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


def test_a_postponed_run_is_proposed_again_when_its_deployment_may_have_room(
    prefect: PrefectServer, backend: Prefect3Backend, pool: str
) -> None:
    deployment = prefect.add_deployment(pool, "limited", concurrency_limit=1)
    first = claimed(prefect, backend, deployment)
    postponed = prefect.add_run(deployment)
    with pytest.raises(ClaimLost, match="limit reached"):
        backend.claim(ready(backend, postponed), "mine")
    assert prefect.run(postponed)["state"]["name"] == AWAITING_SLOT
    # Its half minute is over.
    due = {"scheduled_time": (datetime.now(timezone.utc) - timedelta(seconds=1)).isoformat()}
    prefect.set_state(postponed, "SCHEDULED", force=True, name=AWAITING_SLOT, state_details=due)
    fresh = prefect.add_run(prefect.add_deployment(pool))
    assert [run.id for run in backend.ready_runs([], ())] == [fresh]
    prefect.set_state(first, "COMPLETED", force=True)
    wait_until(lambda: postponed in [run.id for run in backend.ready_runs([], ())], every_s=0.2)
    backend.claim(ready(backend, postponed), "mine")


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
    assert states(prefect, run.id) == ["SCHEDULED", "PENDING"]
    later.close()


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
    outlast_poll()
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

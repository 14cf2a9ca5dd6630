"""The Prefect 3 backend at a real server: what the agent reads before the engine does, and the events that wake it."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.errors import ClaimLost
from flowherd.values import Wake
from tests.peers.prefect3.pool_backend import claimed, outlast_poll, ready, woken
from tests.peers.prefect3.prefect_server import PrefectServer

#: The server takes long to start on a busy machine.
pytestmark = pytest.mark.timeout(300)


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
    outlast_poll()
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

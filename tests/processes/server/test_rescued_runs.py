"""Rescue of runs without a heartbeat, on a server whose timeout is three seconds instead of ten minutes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from flowherd import LocalAgent
from flowherd.config import load_settings
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

TIMEOUT_S = 3.0


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    settings = {"heartbeat_timeout": TIMEOUT_S, "zombie_interval": 0.2, "lazarus_interval": 0.2, "lazarus_attempts": 1}
    with none_left(), running_server(tmp_path_factory.mktemp("impatient") / "data", **settings) as server:
        yield server


@pytest.fixture
def client(impatient: ServerProcess) -> Client:
    return Client(impatient)


def messages(client: Client, run_id: str) -> list[str]:
    rows = client.run(run_id, "logs(order_by: {id: asc}) { message }")["logs"]
    return [row["message"] for row in rows]


def wait_for(client: Client, run_id: str, state: str) -> None:
    wait_until(lambda: client.run(run_id)["state"] == state, what=f"the run to be {state}")


def test_a_dead_run_goes_back_to_the_queue_and_fails_when_it_dies_again(client: Client) -> None:
    label = str(uuid.uuid4())
    agent = client.agent(label)
    run_id = client.create_run(labels=[label])
    seen = agent.wake()
    agent.report(run_id, "Submitted")
    agent.report(run_id, "Running")
    assert agent.wake(seen) != seen
    assert agent.queue(label) == [run_id]
    assert "State update failed" in client.report_refused(run_id, "Success")
    agent.report(run_id, "Submitted")
    wait_for(client, run_id, "Failed")
    assert client.run(run_id, "times_resurrected") == {"times_resurrected": 1}
    assert [message.split(".")[0] for message in messages(client, run_id)] == [
        "Rescheduled by a Lazarus process",
        "A Lazarus process attempted to reschedule this run 1 times without success",
    ]


def test_a_run_that_a_flowherd_agent_has_claimed_is_left_to_that_agent(client: Client) -> None:
    claimed, unclaimed = client.create_run(), client.create_run()
    client.report(claimed, "Submitted", claim="agent")
    client.report(claimed, "Running", claim="agent")
    client.report(unclaimed, "Submitted")
    wait_for(client, unclaimed, "Scheduled")
    assert client.run(claimed)["state"] == "Running"
    client.report(claimed, "Success", claim="agent")


def test_a_flow_run_is_in_the_queue_again_for_a_task_that_died(client: Client) -> None:
    label = str(uuid.uuid4())
    agent = client.agent(label)
    flow = client.flow(tasks=[{"slug": "t", "max_retries": 1, "retry_delay": 0}])
    run_id = client.create_run(flow, labels=[label])
    agent.report(run_id, "Submitted")
    agent.report(run_id, "Running")
    task_run_id = client.run(run_id, "task_runs { id }")["task_runs"][0]["id"]
    client.report_task(task_run_id, "Running")
    wait_until(lambda: client.task_run(task_run_id)["state"] == "Retrying", what="the task to be retried")
    seen = 0
    while agent.queue(label) != [run_id]:
        seen = agent.wake(seen)
    assert client.run(run_id)["state"] == "Running"


def test_a_cancelled_run_without_a_heartbeat_fails(client: Client) -> None:
    run_id, tasks = client.going_run("t")
    client.report_task(tasks["t"], "Running")
    assert client.do("cancel_flow_run", flow_run_id=run_id) == {"state": "Cancelling"}
    wait_for(client, run_id, "Failed")
    wait_until(lambda: client.task_run(tasks["t"])["state"] == "Failed", what="its task to have failed")


def test_runs_of_a_live_agent_are_left_alone(client: Client, no_process_left: None) -> None:
    label = str(uuid.uuid4())
    settings = load_settings({"cloud.api": client.server.url, "cloud.heartbeat_interval": 0.2})
    flow = client.flow(storage={"type": "Command", "argv": ["sleep", str(2 * TIMEOUT_S)]})
    unattended = client.create_run()
    with going(LocalAgent(labels=[label], hostname_label=False, settings=settings)):
        run_id = client.create_run(flow, labels=[label])
        wait_for(client, run_id, "Running")
        # The run without heartbeats is found dead while the other one runs.
        client.report(unattended, "Submitted")
        wait_for(client, unattended, "Scheduled")
        wait_for(client, run_id, "Success")
    assert client.run(run_id, "times_resurrected states { state }") == {
        "times_resurrected": 0,
        "states": [{"state": state} for state in ("Scheduled", "Submitted", "Running", "Success")],
    }

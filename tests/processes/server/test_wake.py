"""GET /agents/ID/wake, by which the server wakes agents."""

from __future__ import annotations

import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.dialect import Client
from tests.support.server import running_server
from tests.support.waiting import wait_until


def waiting(agent: Client) -> Future[int]:
    """Start a wait of `agent`, which is open when this returns. Its result is the change of the agent's number."""
    seen = agent.wake()
    future: Future[int] = Future()

    def wait() -> None:
        try:
            future.set_result(agent.wake(seen, timeout=25) - seen)
        except BaseException as error:  # raised in the test's own thread
            future.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    wait_until(agent.connected)
    return future


def test_the_first_wait_ends_at_once_so_no_earlier_wake_is_missed(client: Client) -> None:
    agent = client.agent()
    seen = agent.wake(0)
    assert seen > 0
    assert agent.wake(seen, timeout=0.05) == seen


def test_a_run_that_is_due_wakes_the_agents_with_its_labels_and_no_others(client: Client) -> None:
    label, flow = str(uuid.uuid4()), client.flow()
    mine, other, none = (waiting(client.agent(*labels)) for labels in ([label, "more"], ["else"], []))
    client.create_run(flow, labels=[label])
    assert mine.result(20) > 0
    assert not other.done()
    assert not none.done()
    client.create_run(flow, labels=[])
    assert none.result(20) > 0
    assert not other.done()
    client.server.post("/poke")
    assert other.result(20) > 0


def test_a_run_that_is_due_later_wakes_at_its_time_and_not_before(client: Client) -> None:
    label, flow = str(uuid.uuid4()), client.flow()
    agent = client.agent(label)
    future = waiting(agent)
    at = datetime.now(timezone.utc) + timedelta(seconds=1)
    run_id = client.create_run(flow, labels=[label], scheduled_start_time=at.isoformat())
    assert future.result(20) > 0
    assert datetime.now(timezone.utc) >= at
    assert agent.queue(label) == [run_id]


@pytest.mark.slow
def test_a_run_that_waits_for_its_time_wakes_after_a_restart_too(tmp_path: Path, no_process_left: None) -> None:
    with running_server(tmp_path / "data") as server:
        client = Client(server)
        agent, flow = client.agent("a"), client.flow()
        for delay_s in (3, 20):  # the longer one for machines on which the restart takes more than 3 s
            at = datetime.now(timezone.utc) + timedelta(seconds=delay_s)
            run_id = client.create_run(flow, labels=["a"], scheduled_start_time=at.isoformat())
            server.kill()
            server.restart()
            future = waiting(agent)
            if datetime.now(timezone.utc) < at:
                break
        assert future.result(25) > 0
        assert datetime.now(timezone.utc) >= at
        assert run_id in agent.queue("a")


def test_a_wake_between_two_waits_is_not_lost(client: Client) -> None:
    label, flow = str(uuid.uuid4()), client.flow()
    agent = client.agent(label)
    seen = agent.wake()
    client.create_run(flow, labels=[label])
    assert agent.wake(seen, timeout=20) > seen


def _cancel(client: Client, run_id: str) -> None:
    client.do("cancel_flow_run", flow_run_id=run_id)


def _report(client: Client, run_id: str) -> None:
    client.report(run_id, "Cancelled")


def _delete(client: Client, run_id: str) -> None:
    client.do("delete_flow_run", flow_run_id=run_id)


@pytest.mark.parametrize("end", [_cancel, _report, _delete])
def test_the_agent_of_a_run_that_must_stop_is_woken(client: Client, end: Callable[[Client, str], None]) -> None:
    agent, bystander = client.agent("a"), client.agent("a")
    run_id = client.create_run(labels=[str(uuid.uuid4())])
    agent.report(run_id, "Submitted", 1, "c")
    agent.report(run_id, "Running", 2, "c")
    mine, other = waiting(agent), waiting(bystander)
    end(client, run_id)
    assert mine.result(20) > 0
    assert not other.done()
    client.server.post("/poke")
    other.result(20)


def test_an_answer_says_whether_a_run_may_have_to_stop(client: Client) -> None:
    label, flow = str(uuid.uuid4()), client.flow()
    agent = client.agent(label)

    def news(seen: int) -> dict[str, Any]:
        found: dict[str, Any] = client.server.get(f"/agents/{agent.agent_id}/wake?seen={seen}&timeout=20").json()
        return found

    first = news(0)
    run_id = client.create_run(flow, labels=[label])
    due = news(first["sequence"])
    assert (first["ends"], due["ends"]) == (True, False)
    agent.report(run_id, "Submitted", 1, "c")
    agent.report(run_id, "Running", 2, "c")
    _cancel(client, run_id)
    client.create_run(flow, labels=[label])  # which hides nothing
    assert news(due["sequence"])["ends"] is True


def test_a_poke_wakes_all_agents_and_returns_their_number(client: Client) -> None:
    futures = [waiting(client.agent(label)) for label in ("x", "y")]
    assert client.server.post("/poke").json()["agents"] >= 2
    for future in futures:
        assert future.result(20) > 0


def test_an_agent_is_connected_while_its_connection_is_open(client: Client) -> None:
    agent = client.agent()
    assert not agent.connected()
    seen = agent.wake()
    address = urlsplit(client.server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        path = f"/agents/{agent.agent_id}/wake?seen={seen}&timeout=60"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(agent.connected)
    wait_until(lambda: not agent.connected(), what="the broken connection to be noticed")


def test_a_wait_ends_after_its_timeout_if_nothing_happens(client: Client) -> None:
    agent = client.agent(str(uuid.uuid4()))
    seen = agent.wake()
    assert agent.wake(seen, timeout=0.1) == seen


@pytest.mark.parametrize(
    ("agent_id", "query", "status"),
    [
        ("00000000-0000-0000-0000-000000000000", "", 404),
        ("nobody", "", 404),
        (None, "seen=x", 400),
        (None, "timeout=soon", 400),
        (None, "timeout=nan", 400),
    ],
)
def test_an_invalid_wait_is_refused(client: Client, agent_id: str | None, query: str, status: int) -> None:
    known = client.agent().agent_id
    response = client.server.get(f"/agents/{agent_id or known}/wake?{query}")
    assert response.status_code == status
    assert response.json()["errors"][0]["message"]

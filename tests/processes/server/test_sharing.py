"""offer_runs, claim_runs and wakes: due runs are shared out among the agents that have room for them."""

from __future__ import annotations

import socket
import threading
import uuid
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

import pytest

from flowherd_server.offers import HINT_S
from tests.support.dialect import Client
from tests.support.waiting import wait_until


class Agent:
    """A registered agent that asks for offers."""

    def __init__(self, client: Client, label: str, agent: Client | None = None) -> None:
        self.client = agent or client.agent(label)
        self.label = label
        self.holder = uuid.uuid4().hex

    def ask(self, room: int | None = None, exclude: list[str] | None = None) -> list[dict[str, Any]]:
        given = {"holder": self.holder, "room": room, "labels": [self.label], "exclude": exclude or []}
        rows: list[dict[str, Any]] = self.client.do("offer_runs", **given)["flow_runs"]
        return rows

    def offered(self, room: int | None = None) -> list[str]:
        return [row["id"] for row in self.ask(room)]

    def claim(self, *rows: dict[str, Any]) -> list[dict[str, Any]]:
        claims = [
            {
                "flow_run_id": row["id"],
                "version": None if row["state"] == "Running" else row["version"],
                "claim": f"{self.holder}/{row['id']}",
                "task_runs": [{"task_run_id": each["id"], "version": each["version"]} for each in row["task_runs"]],
            }
            for row in rows
        ]
        answers: list[dict[str, Any]] = self.client.do("claim_runs", claims=claims)["claims"]
        assert [answer["flow_run_id"] for answer in answers] == [row["id"] for row in rows]
        return answers

    def path(self, seen: int, timeout_s: float = 25) -> str:
        return f"/agents/{self.client.agent_id}/wake?seen={seen}&timeout={timeout_s}&holder={self.holder}"

    def wait(self) -> Future[int]:
        """Start a wait, which is open when this returns."""
        seen = int(self.client.server.get(self.path(0)).json()["sequence"])
        future: Future[int] = Future()

        def wait() -> None:
            future.set_result(int(self.client.server.get(self.path(seen)).json()["sequence"]) - seen)

        threading.Thread(target=wait, daemon=True).start()
        wait_until(self.client.connected)
        return future


@pytest.fixture
def label() -> str:
    return str(uuid.uuid4())


def runs(client: Client, label: str, count: int) -> list[str]:
    flow = client.flow()
    return [client.create_run(flow, labels=[label]) for _ in range(count)]


def test_an_offer_has_the_rows_that_the_details_query_has(client: Client, label: str) -> None:
    flow = client.flow(parameters=[{"name": "x", "default": 1, "required": False}])
    run_id = client.create_run(flow, labels=[label], parameters={"x": [1, "two"]})
    (row,) = Agent(client, label).ask()
    fields = "id name version state serialized_state parameters run_config labels scheduled_start_time"
    flow_fields = "id name version environment storage run_config core_version parameters"
    details = client.run(run_id, f"{fields} flow {{ {flow_fields} }}")
    assert row == {**details, "task_runs": []}


def test_a_run_is_offered_to_one_agent_and_agents_of_the_dialect_still_see_it(client: Client, label: str) -> None:
    """Two agents that were registered alike, and so have one id, are two agents."""
    one = Agent(client, label)
    two = Agent(client, label, one.client)
    (run_id,) = runs(client, label, 1)
    assert one.offered() == [run_id]
    assert two.offered() == []
    assert one.offered() == [run_id]
    assert client.queue(label) == [run_id]


def test_an_agent_without_room_is_offered_nothing_and_what_it_had_is_for_others_at_once(
    client: Client, label: str
) -> None:
    one, two = Agent(client, label), Agent(client, label)
    assert two.offered() == []
    woken = two.wait()
    ids = runs(client, label, 1)
    assert woken.result(20) > 0  # the only one that waits
    assert one.offered() == []
    assert two.offered(room=0) == []
    assert one.offered(room=2) == ids


def test_a_due_run_wakes_one_agent_and_another_when_that_one_does_not_claim_it(client: Client, label: str) -> None:
    agents = [Agent(client, label) for _ in range(3)]
    agents[2].ask(room=0)
    waits = [agent.wait() for agent in agents[:2]]
    full = agents[2].wait()
    (run_id,) = runs(client, label, 1)
    wait_until(lambda: any(wait.done() for wait in waits))
    silent = next(agent for agent, wait in zip(agents, waits, strict=False) if wait.done())
    (other,) = (agent for agent in agents[:2] if agent is not silent)
    assert client.queue(label) == [run_id]
    assert other.offered() == []
    (later,) = (wait for wait in waits if not wait.done())
    assert later.result(HINT_S + 20) > 0  # `silent` holds no connection that breaks, as a process that was stopped
    assert other.offered() == [run_id]
    assert not full.done()
    full_now, _ = agents[2].ask(room=None), client.server.post("/poke")
    assert full_now == []  # it is offered to `other`
    assert full.result(20) > 0


def test_an_agent_whose_connection_breaks_keeps_no_run_from_others(client: Client, label: str) -> None:
    dying, heir = Agent(client, label), Agent(client, label)
    seen = int(client.server.get(dying.path(0)).json()["sequence"])
    (run_id,) = runs(client, label, 1)
    assert dying.offered() == [run_id]
    seen = int(client.server.get(dying.path(0)).json()["sequence"])
    address = urlsplit(client.server.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(f"GET {dying.path(seen)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(dying.client.connected)
        assert heir.offered() == []
    wait_until(lambda: heir.offered() == [run_id])


def test_of_many_claims_in_one_request_each_has_its_own_answer(client: Client, label: str) -> None:
    one, two = Agent(client, label), Agent(client, label)
    ids = runs(client, label, 4)
    rows = one.ask()
    assert [row["id"] for row in rows] == ids
    client.report(ids[1], "Submitted", 1, "another's")
    client.do("cancel_flow_run", flow_run_id=ids[2])
    answers = one.claim(*rows, {**rows[0], "id": str(uuid.uuid4())})
    assert [answer["won"] for answer in answers] == [True, False, False, True, False]
    assert "Submitted" in answers[1]["message"] and "Cancelled" in answers[2]["message"]
    assert one.claim(*rows) == answers[:4]
    assert not any(answer["won"] for answer in two.claim(*rows))
    stored = client.run(ids[0], "state version agent_id serialized_state")
    assert (stored["state"], stored["version"], stored["agent_id"]) == ("Submitted", 2, one.client.agent_id)
    assert stored["serialized_state"]["state"] == rows[0]["serialized_state"]
    assert stored["serialized_state"]["context"]["flowherd"]["claim"] == f"{one.holder}/{ids[0]}"


def test_claims_are_limited_and_need_what_decides_them(client: Client) -> None:
    claim = {"flow_run_id": str(uuid.uuid4()), "version": 1, "claim": "c"}
    assert "100 are allowed" in client.refused("claim_runs", claims=[claim] * 101)
    assert "neither a version nor task runs" in client.refused("claim_runs", claims=[{**claim, "version": None}])
    assert "characters" in client.refused("offer_runs", holder="", labels=[])
    response = client.server.get(f"/agents/{client.agent().agent_id}/wake?holder={'x' * 101}")
    assert response.status_code == 400

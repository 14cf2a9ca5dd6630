"""A run's way over the lane: offered by a push, claimed, reported; the same decisions as over GraphQL."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.lane.client import LaneClient, LaneRefused
from flowherd.lane.messages import FOLLOWED, LIVE, OFFER, REFUSED, WAKE
from tests.support.dialect import Client, report
from tests.support.lane import lane_of
from tests.support.waiting import wait_until


class LaneAgent:
    """An agent with a label of its own and two connections: one that waits, one that asks."""

    def __init__(self, client: Client, waiting: LaneClient, asking: LaneClient, label: str, holder: str) -> None:
        self.client = client
        self.waiting = waiting
        self.asking = asking
        self.label = label
        self.holder = holder

    def create(self, **given: Any) -> str:
        """Create a run for agents with this label over GraphQL."""
        return self.client.create_run(self.client.flow(), labels=[self.label], **given)

    def pushed(self) -> list[str]:
        """Return the ids of the runs in the next push, which must be of runs."""
        push = self.next_push()
        assert push["push"] == OFFER, push
        return [run["id"] for run in push["flow_runs"]]

    def next_push(self) -> dict[str, Any]:
        """Wait for a push that concerns runs to begin or to end.

        An agent is also told whether somebody looks at pages or logs. On the shared server another test may have done
        so a few seconds ago.
        """
        while True:
            push = self.waiting.wait_for_push(20)
            assert push is not None
            if push.head["push"] not in (LIVE, FOLLOWED):
                return dict(push.head)

    def is_pushed_nothing(self) -> bool:
        """Whether nothing was pushed before a poke that comes now."""
        assert self.client.server.post("/poke").json()["agents"] >= 1
        return self.next_push() == {"push": WAKE}

    def offered(self, room: int | None = None) -> list[dict[str, Any]]:
        """Ask for runs."""
        answer = self.asking.request("offer", holder=self.holder, room=room, labels=[self.label])
        found: list[dict[str, Any]] = answer.head["flow_runs"]
        return found

    def claim(self, run_id: str, version: int = 1) -> dict[str, Any]:
        """Claim a run; return the answer."""
        claims = [{"flow_run_id": run_id, "version": version, "claim": f"{self.holder}:{run_id}"}]
        (answer,) = self.asking.request("claim", claims=claims).head["claims"]
        assert answer.pop("flow_run_id") == run_id
        return dict(answer)


@contextmanager
def lane_agent(client: Client, label: str, room: int | None = None) -> Iterator[LaneAgent]:
    registered, holder = client.agent(label), uuid.uuid4().hex
    with (
        lane_of(client.server, agent_id=registered.agent_id) as waiting,
        lane_of(client.server, agent_id=registered.agent_id) as asking,
    ):
        waiting.request("subscribe", holder=holder, labels=[label], room=room)
        yield LaneAgent(registered, waiting, asking, label, holder)


@pytest.fixture
def agent(client: Client) -> Iterator[LaneAgent]:
    with lane_agent(client, f"label-{uuid.uuid4()}") as agent:
        yield agent


def test_a_new_run_is_pushed_with_all_that_its_start_needs(agent: LaneAgent) -> None:
    run_id = agent.create(parameters={"x": "ø"}, flow_run_name="of-a-test")
    (row,) = agent.next_push()["flow_runs"]
    assert row["id"] == run_id
    assert row["parameters"] == {"x": "ø"}
    # The same row as an agent gets that asks, over the lane or over GraphQL.
    assert agent.offered() == [row]
    given = {"holder": agent.holder, "labels": [agent.label]}
    assert agent.client.do("offer_runs", **given)["flow_runs"] == [row]


def test_a_claim_is_won_once_and_its_repetition_has_the_same_answer(agent: LaneAgent) -> None:
    run_id = agent.create()
    assert agent.pushed() == [run_id]
    assert agent.claim(run_id) == {"won": True, "message": None}
    assert agent.claim(run_id) == {"won": True, "message": None}
    agent.holder = "another"
    lost = agent.claim(run_id)
    assert not lost["won"]
    assert "State update failed" in lost["message"]
    assert agent.client.run(run_id) == {"state": "Submitted", "version": 2}
    assert agent.client.run(run_id, "agent_id") == {"agent_id": agent.client.agent_id}


def test_lines_and_states_of_several_runs_are_stored_together(agent: LaneAgent) -> None:
    runs = [agent.create() for _ in range(2)]
    for run_id in runs:
        agent.claim(run_id)
    logs = [{"flow_run_id": run_id, "message": f"line of {run_id}", "line_id": "token:0"} for run_id in runs]
    states = [
        report(run_id, state, None, f"{agent.holder}:{run_id}") for run_id in runs for state in ("Running", "Success")
    ]
    agent.asking.request("report", logs=logs, states=states)
    agent.asking.request("report", logs=logs, states=states)  # because its answer was lost
    for run_id in runs:
        found = agent.client.run(run_id, "state version logs { message }")
        assert found == {"state": "Success", "version": 4, "logs": [{"message": f"line of {run_id}"}]}


def test_a_report_that_is_refused_stores_nothing_and_others_beside_it_are_stored(agent: LaneAgent) -> None:
    runs = [agent.create() for _ in range(3)]
    agent.client.report(runs[1], "Submitted")
    agent.client.report(runs[1], "Failed")
    asked = [
        agent.asking.send(
            "report",
            logs=[{"flow_run_id": run_id, "message": "a line"}],
            states=[report(run_id, "Running", None, f"{agent.holder}:{run_id}")],
        )
        for run_id in runs
    ]
    agent.asking.answer_to(asked[0])
    with pytest.raises(LaneRefused, match="State update failed") as refusal:
        agent.asking.answer_to(asked[1])
    assert refusal.value.kind == REFUSED
    agent.asking.answer_to(asked[2])
    found = [agent.client.run(run_id, "state log_lines") for run_id in runs]
    started = {"state": "Running", "log_lines": 1}
    assert found == [started, {"state": "Failed", "log_lines": 0}, started]


def test_a_run_is_pushed_when_its_time_has_come(agent: LaneAgent) -> None:
    due = datetime.now(timezone.utc) + timedelta(seconds=0.3)
    run_id = agent.create(scheduled_start_time=due.isoformat())
    assert agent.pushed() == [run_id]
    assert datetime.now(timezone.utc) >= due


def test_an_agent_that_has_a_run_to_end_is_woken(agent: LaneAgent) -> None:
    run_id = agent.create()
    assert agent.pushed() == [run_id]
    agent.claim(run_id)
    agent.client.report(run_id, "Running")
    agent.client.agent_id = None
    agent.client.do("cancel_flow_run", flow_run_id=run_id)
    assert agent.next_push() == {"push": WAKE, "work": False}
    (state,) = agent.asking.request("states", flow_run_ids=[run_id]).head["flow_runs"]
    assert state["state"] == "Cancelling"


def test_two_agents_are_pushed_runs_in_turns_and_none_beyond_its_room(agent: LaneAgent) -> None:
    with lane_agent(agent.client, agent.label, room=1) as other:
        runs = [agent.create() for _ in range(3)]
        first = other.pushed()
        assert sorted(agent.pushed() + agent.pushed() + first) == sorted(runs)
        assert agent.is_pushed_nothing()
        # It has room again.
        assert other.claim(first[0])["won"]
        assert other.next_push() == {"push": WAKE}  # by the poke
        other.asking.request("room", holder=other.holder, room=0)
        runs = [agent.create() for _ in range(2)]
        assert sorted(agent.pushed() + agent.pushed()) == sorted(runs)


def test_what_an_agent_was_pushed_and_did_not_claim_passes_on_when_it_goes(agent: LaneAgent) -> None:
    agent.asking.request("room", holder=agent.holder, room=0)
    with lane_agent(agent.client, agent.label) as other:
        run_id = agent.create()
        assert other.pushed() == [run_id]
        agent.asking.request("room", holder=agent.holder, room=None)
        assert agent.client.ask(f'{{ agent_by_pk(id: "{other.client.agent_id}") {{ connected }} }}') == {
            "agent_by_pk": {"connected": True}
        }
    wait_until(lambda: [row["id"] for row in agent.offered()] == [run_id])
    assert agent.next_push() == {"push": WAKE, "ends": False}
    assert agent.client.ask(f'{{ agent_by_pk(id: "{other.client.agent_id}") {{ connected }} }}') == {
        "agent_by_pk": {"connected": False}
    }


def test_an_agent_with_other_labels_is_pushed_nothing(agent: LaneAgent) -> None:
    begun_s = time.monotonic()
    agent.client.create_run(agent.client.flow(), labels=["of-nobody"])
    assert agent.is_pushed_nothing()
    assert time.monotonic() > begun_s

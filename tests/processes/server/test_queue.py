"""get_runs_in_queue and register_agent."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

from tests.support.dialect import Client


def test_a_run_is_in_the_queue_once_it_is_due_and_the_earliest_comes_first(client: Client) -> None:
    label, flow = str(uuid.uuid4()), client.flow()
    now = datetime.now(timezone.utc)
    times = [now + timedelta(hours=2), now - timedelta(hours=1), now + timedelta(hours=1)]
    runs = [client.create_run(flow, labels=[label], scheduled_start_time=at.isoformat()) for at in times]
    assert client.queue(label) == [runs[1]]
    assert client.queue(label, before=(now + timedelta(days=1)).isoformat()) == [runs[1], runs[2], runs[0]]
    assert client.queue(label, before="2000-01-01") == []


def test_runs_for_other_agents_never_hide_those_for_this_one(client: Client) -> None:
    """The dialect's real server takes the first 75 rows and filters by labels afterwards."""
    foreign, own, flow = str(uuid.uuid4()), str(uuid.uuid4()), client.flow()
    for _ in range(110):
        client.create_run(flow, labels=[foreign], scheduled_start_time="2001-01-01T00:00:00Z")
    run_id = client.create_run(flow, labels=[own])
    assert client.queue(own, "another") == [run_id]
    assert len(client.queue(foreign)) == 100


def test_a_claimed_run_is_not_in_the_queue(client: Client) -> None:
    label = str(uuid.uuid4())
    run_id = client.create_run(labels=[label])
    client.report(run_id, "Submitted")
    assert client.queue(label) == []


def test_an_agent_that_registers_again_is_the_same_agent(client: Client) -> None:
    name = str(uuid.uuid4())
    given = {"type": "LocalAgent", "name": name, "labels": ["b", "a"]}
    first = client.do("register_agent", **given)["id"]
    assert client.do("register_agent", **{**given, "labels": ["a", "b"]})["id"] == first
    assert client.do("register_agent", **{**given, "labels": ["a"]})["id"] != first
    assert client.do("register_agent", **{**given, "type": "DockerAgent"})["id"] != first


def test_the_time_of_an_agents_last_query_is_stored(client: Client) -> None:
    agent = client.agent("nothing-for-this-one")
    query = f'{{ agent_by_pk(id: "{agent.agent_id}") {{ last_queried labels core_version }} }}'
    registered = client.ask(query)["agent_by_pk"]
    assert registered["core_version"] == "1.4.1"
    agent.queue("nothing-for-this-one")
    assert client.ask(query)["agent_by_pk"]["last_queried"] > registered["last_queried"]

"""Who created a run, cancelled it, or switched a schedule is stored, by what the client says of itself."""

from __future__ import annotations

from typing import Any

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.user_client import UserClient
from flowherd.story.asked_by import asked_by
from tests.support.dialect import Client
from tests.support.server import ServerProcess

ALICE = asked_by("command line", "alice")


@pytest.fixture
def alice(shared_server: ServerProcess) -> UserClient:
    transport = GraphQLTransport(shared_server.url)
    transport.by = ALICE
    transport.execute("query { hello }")
    return UserClient(transport)


def flow_of(client: Client, flow_id: str) -> Any:
    return client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ is_schedule_active schedule_by schedule_since }} }}')[
        "flow_by_pk"
    ]


def test_a_run_says_who_created_and_who_cancelled_it(client: Client, alice: UserClient) -> None:
    run_id = alice.runs.create(client.flow(), parameters={})
    other = client.create_run()
    assert client.run(other, "created_by")["created_by"] == "API"
    alice.runs.cancel(run_id)
    client.do("cancel_flow_run", flow_run_id=other)
    found = alice.runs.get(run_id)
    assert found is not None and found.created_by == ALICE
    assert [state.by for state in alice.history(run_id).states()] == [None, ALICE]
    assert [state.by for state in alice.history(other).states()] == [None, "API"]


def test_a_schedule_says_who_switched_it_and_since_when_and_its_runs_that_it_made_them(
    client: Client, alice: UserClient
) -> None:
    flow_id = client.flow(schedule={"clocks": [{"type": "IntervalClock", "interval": 3_600_000_000}]})
    on = flow_of(client, flow_id)
    assert on["is_schedule_active"] and on["schedule_by"] == "API" and on["schedule_since"]
    runs = client.ask(f'{{ flow_run(where: {{flow_id: {{_eq: "{flow_id}"}}}}) {{ created_by }} }}')["flow_run"]
    assert runs and {run["created_by"] for run in runs} == {"schedule"}
    alice.schedules.switch(flow_id, on=False)
    off = flow_of(client, flow_id)
    assert not off["is_schedule_active"] and off["schedule_by"] == ALICE
    assert off["schedule_since"] > on["schedule_since"]

"""Finding a run by what a person types: its name, or the beginning of its id."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.runs import Runs
from flowherd.client.user_client import UserClient
from tests.support.dialect import Client


@pytest.fixture
def runs(client: Client) -> Iterator[Runs]:
    person = UserClient(GraphQLTransport(client.server.url, ""))
    yield person.runs
    person.close()


@pytest.mark.parametrize("length", [13, 14, 18, 19, 30, 36])
def test_any_beginning_of_an_id_finds_the_run_in_either_case(client: Client, runs: Runs, length: int) -> None:
    run_id = client.create_run()
    assert [run.id for run in runs.find(run_id[:length])] == [run_id]
    assert [run.id for run in runs.find(run_id[:length].upper())] == [run_id]


@pytest.mark.parametrize("change", [lambda text: text[:5] + "-" + text[5:9], lambda text: text[:9] + "x", lambda _: ""])
def test_what_begins_no_id_finds_nothing(client: Client, runs: Runs, change: object) -> None:
    assert callable(change)
    assert runs.find(change(client.create_run())) == []


def test_a_name_is_preferred_to_the_beginning_of_an_id(client: Client, runs: Runs) -> None:
    run_id = client.create_run()
    named = client.create_run(flow_run_name=run_id[:12])
    assert [run.id for run in runs.find(run_id[:12])] == [named]
    assert runs.find(f"no-such-{uuid.uuid4()}") == []

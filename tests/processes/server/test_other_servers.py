"""flowherd.Client at a server without flowherd's extensions: the real one behind a gate that hides them."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from flowherd import Client as PersonsClient
from flowherd import InvalidRequest
from tests.support.commands import CommandLine
from tests.support.dialect import Client
from tests.support.http_server import Answer, Request, http_server


class Gate:
    """Passes requests on; hides what a server of flowherd says of itself, and notes the operations."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.operations: set[str] = set()

    def answer(self, request: Request) -> Answer:
        query = json.loads(request.body)["query"]
        self.operations |= set(re.findall(r"\b(\w+)\(input", query))
        headers = {"Content-Type": "application/json"}
        sent = requests.post(self._url + request.path, data=request.body, headers=headers, timeout=30)
        return Answer(status=sent.status_code, headers=headers, body=sent.content)


@pytest.fixture
def gate(client: Client) -> Gate:
    return Gate(client.server.url)


@pytest.fixture
def person(gate: Gate) -> Iterator[PersonsClient]:
    with http_server(gate.answer) as url, PersonsClient(url) as person:
        yield person


def failed_run(client: Client, flow_id: str, **given: object) -> str:
    run_id = client.create_run(flow_id, **given)
    client.report(run_id, "Failed")
    return run_id


def test_runs_are_cancelled_and_deleted_one_by_one(client: Client, gate: Gate, person: PersonsClient) -> None:
    flow = client.flow()
    waiting, going, ended = client.create_run(flow), client.create_run(flow), failed_run(client, flow)
    client.report(going, "Running")
    unknown = str(uuid.uuid4())
    changes = {change.id: (change.state, change.done) for change in person.delete_all([going, ended, unknown])}
    assert changes == {going: ("Running", False), ended: ("Failed", True), unknown: (None, False)}
    changes = {change.id: (change.state, change.done) for change in person.cancel_all([waiting, going])}
    assert changes == {waiting: ("Cancelled", True), going: ("Cancelling", True)}
    assert person.wait(waiting, 10).state == "Cancelled"
    assert gate.operations == {"delete_flow_run", "cancel_flow_run"}


def test_a_run_is_repeated_as_far_as_the_dialect_can(client: Client, gate: Gate, person: PersonsClient) -> None:
    project, name = client.project(), f"flow-{uuid.uuid4()}"
    run_id = failed_run(client, client.flow(project, name=name), parameters={"n": 1}, labels=["a"])
    repeated = person.get(person.retry(run_id))
    assert (repeated.parameters, repeated.labels, repeated.repeats) == ({"n": 1}, ("a",), None)
    assert not person.connection.run_changes.remembers_repeats()
    newest = client.flow(project, name=name, run_config={"type": "LocalRun", "labels": ["new"]})
    with pytest.raises(InvalidRequest, match="--latest repeats the run with the newest version"):
        person.retry(run_id)
    assert client.run(person.retry(run_id, latest=True), "flow_id labels") == {"flow_id": newest, "labels": ["new"]}
    assert gate.operations == {"create_flow_run"}


def test_a_flow_is_unregistered(client: Client, person: PersonsClient) -> None:
    name = f"flow-{uuid.uuid4()}"
    waiting = client.create_run(client.flow(name=name))
    assert person.unregister(name).cancelled == 1
    assert client.run(waiting)["state"] == "Cancelled"
    assert person.flows(name) == []


def test_a_flow_with_rules_is_not_registered_and_one_without_has_none(
    client: Client, gate: Gate, tmp_path: Path
) -> None:
    command, name = CommandLine(tmp_path), f"flow-{uuid.uuid4()}"
    with http_server(gate.answer) as url:
        to_run = ["--command", "--", "true"]
        refused = command("register", name, "--api", url, "--overlap", "skip", "--retries", "1", *to_run, code=1)
        assert "does not follow --overlap, --retries: only flowherd's own server does" in refused.stderr
        assert client.ask(f'{{ flow(where: {{name: {{_eq: "{name}"}}}}) {{ id }} }}')["flow"] == []
        command("register", name, "--api", url, *to_run)
    flows = client.ask(f'{{ flow(where: {{name: {{_eq: "{name}"}}}}) {{ settings }} }}')["flow"]
    assert flows == [{"settings": {}}]

"""The token of one flow run opens what concerns that run, while it goes on, and nothing else at the server."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

import pytest
import requests

from flowherd.run_token import make_run_token
from tests.support.dialect import Client, report, task_report
from tests.support.server import ServerProcess


class RunClient(Client):
    """A client that has the token of one flow run."""

    def __init__(self, server: ServerProcess, run_id: str, version: int = 1) -> None:
        super().__init__(server)
        self.run_id = run_id
        self.headers = {"Authorization": f"Bearer {make_run_token(server.token, run_id, version)}"}

    def answer(self, text: str, variables: Any = None) -> requests.Response:
        body = {"query": text, "variables": variables}
        return self.server.post("/graphql", json=body, headers=self.headers)


class Runs(NamedTuple):
    """Two runs that go on, of different flows, the first with a client that has its token."""

    everything: Client
    own: RunClient
    run_id: str
    task_run_id: str
    other_id: str
    other_task_run_id: str


@pytest.fixture(scope="module")
def secrets() -> list[str]:
    return [f"secret-{uuid.uuid4()}" for _ in range(3)]


@pytest.fixture(scope="module")
def runs(closed_server: ServerProcess, secrets: list[str]) -> Runs:
    client = Client(closed_server)
    for name in secrets:
        client.do("set_secret", name=name, value=f"value of {name}")
    secret_task = {"slug": "x-1", "name": secrets[1], "type": "prefect.tasks.secrets.base.PrefectSecret", "tags": []}
    project = client.project()
    flow_id = client.flow(
        project, storage={"type": "Local", "secrets": [secrets[0]]}, tasks=[{"slug": "a", "tags": []}, secret_task]
    )
    run_id = client.create_run(flow_id, parameters={"of": "own"})
    for state in ("Submitted", "Running"):
        client.report(run_id, state)
    other_id, other_tasks = client.going_run("a")
    rows = client.run(run_id, 'task_runs(where: {task: {slug: {_eq: "a"}}}) { id }')["task_runs"]
    return Runs(client, RunClient(closed_server, run_id), run_id, rows[0]["id"], other_id, other_tasks["a"])


def test_an_engine_can_report_read_and_log_its_own_run(runs: Runs) -> None:
    own = runs.own
    assert own.ask("{ hello auth_info { api_token_scope } tenant { id slug } }")["hello"] == "hello"
    found = own.run(
        runs.run_id, "name parameters flow { name project { name } flow_group { settings } } task_runs { id }"
    )
    assert found["parameters"] == {"of": "own"}
    assert runs.task_run_id in [row["id"] for row in found["task_runs"]]
    own.report_task(runs.task_run_id, "Running")
    own.report_task(runs.task_run_id, "Success")
    assert own.ask(f'{{ get_task_run_info(task_run_id: "{runs.task_run_id}") {{ state }} }}') == {
        "get_task_run_info": {"state": "Success"}
    }
    own.do("write_run_logs", logs=[{"flow_run_id": runs.run_id, "task_run_id": runs.task_run_id, "message": "of own"}])
    own.do("update_flow_run_heartbeat", flow_run_id=runs.run_id)
    own.do("set_flow_run_name", flow_run_id=runs.run_id, name="renamed")
    artifact = own.do("create_task_run_artifact", task_run_id=runs.task_run_id, kind="link", data={})["id"]
    own.do("delete_task_run_artifact", task_run_artifact_id=artifact)
    task_id = own.task_run(runs.task_run_id, "task { id }")["task"]["id"]
    child = own.do("get_or_create_task_run_info", flow_run_id=runs.run_id, task_id=task_id, map_index=0)["id"]
    own.report_task(child, "Failed")
    assert own.run(runs.run_id, "name logs { message }") == {"name": "renamed", "logs": [{"message": "of own"}]}


def test_every_table_shows_only_what_belongs_to_the_run(runs: Runs) -> None:
    runs.everything.do("write_run_logs", logs=[{"flow_run_id": runs.other_id, "message": "of other"}])
    runs.everything.do("create_task_run_artifact", task_run_id=runs.other_task_run_id, kind="link", data={})
    tables = runs.own.ask("{ __schema { queryType { fields { name } } } }")["__schema"]["queryType"]["fields"]
    names = {table["name"].removesuffix("_aggregate").removesuffix("_by_pk") for table in tables}
    own = {
        "tenant", "project", "flow_group", "flow", "task", "edge", "flow_run", "flow_run_attempt", "flow_run_state",
        "task_run", "task_run_state", "task_run_artifact", "log", "text_so_far",
    }  # fmt: skip
    assert names == own | {"hello", "auth_info", "user", "secret_value", "get_task_run_info"}
    for table in sorted(own - {"tenant"}):  # there is one tenant
        everything = {row["id"] for row in runs.everything.ask(f"{{ {table} {{ id }} }}")[table]}
        seen = {row["id"] for row in runs.own.ask(f"{{ {table} {{ id }} }}")[table]}
        assert seen < everything or not everything, table
        of_others = sorted(map(str, everything - seen))[:1]
        for row_id in of_others:
            key = f'"{row_id}"' if not row_id.isdigit() else row_id
            by_id = f"(where: {{_or: [{{id: {{_eq: {key}}}}}, {{}}]}})"
            assert len(runs.own.ask(f"{{ {table}{by_id} {{ id }} }}")[table]) == len(seen), table
            assert runs.own.ask(f"{{ {table}_by_pk(id: {key}) {{ id }} }}")[f"{table}_by_pk"] is None
        counted = runs.own.ask(f"{{ {table}_aggregate {{ aggregate {{ count }} }} }}")[f"{table}_aggregate"]
        assert counted["aggregate"]["count"] == len(seen), table


@pytest.mark.parametrize(
    "query",
    [
        "{ flow { flow_runs { id } } }",
        "{ flow { flow_runs_aggregate { aggregate { count } } } }",
        "{ flow { project { flows { id } } } }",
        "{ task { task_runs { id } } }",
        '{ flow(where: {flow_runs: {name: {_like: "a%"}}}) { id } }',
        '{ flow_run(where: {flow: {flow_group: {flows: {name: {_eq: "x"}}}}}) { id } }',
        "{ flow_run(order_by: {agent: {name: asc}}) { id } }",
        "{ agent { id } }",
        "{ key_value { key value } }",
        "{ secret_names }",
        "{ flow_run { figures } }",
    ],
)
def test_nothing_leads_to_what_is_not_of_the_run(runs: Runs, query: str) -> None:
    assert runs.everything.answer(query).status_code == 200
    assert runs.own.answer(query).status_code == 400


def test_operations_on_others_are_refused(runs: Runs) -> None:
    other, task_run = runs.other_id, runs.other_task_run_id
    artifact = runs.everything.do("create_task_run_artifact", task_run_id=task_run, kind="link", data={})["id"]
    task_id = runs.everything.task_run(task_run, "task { id }")["task"]["id"]
    before = runs.everything.run(other, "name version log_lines"), runs.everything.task_run(task_run)
    line = {"flow_run_id": runs.run_id, "message": "x"}
    mixed = [report(runs.run_id, "Running"), report(other, "Failed")]
    refused: list[tuple[str, dict[str, Any]]] = [
        ("set_flow_run_states", {"states": mixed}),
        ("set_task_run_states", {"states": [task_report(task_run, "Failed")]}),
        ("set_task_run_states", {"states": [task_report(str(uuid.uuid4()), "Failed")]}),
        ("get_or_create_task_run", {"flow_run_id": other, "task_id": task_id}),
        ("set_flow_run_name", {"flow_run_id": other, "name": "mine"}),
        ("set_task_run_name", {"task_run_id": task_run, "name": "mine"}),
        ("update_flow_run_heartbeat", {"flow_run_id": other}),
        ("update_task_run_heartbeat", {"task_run_id": task_run}),
        ("cancel_flow_run", {"flow_run_id": other}),
        ("write_run_logs", {"logs": [line, {**line, "flow_run_id": other}]}),
        ("write_run_logs", {"logs": {**line, "task_run_id": task_run}}),
        ("create_task_run_artifact", {"task_run_id": task_run, "kind": "link", "data": {}}),
        ("update_task_run_artifact", {"task_run_artifact_id": artifact, "data": {"a": 1}}),
        ("delete_task_run_artifact", {"task_run_artifact_id": artifact}),
    ]
    for operation, given in refused:
        assert f"is for flow run {runs.run_id} alone" in runs.own.refused(operation, **given), operation
    after = runs.everything.run(other, "name version log_lines"), runs.everything.task_run(task_run)
    assert after == before


def test_no_other_operation_exists_for_it(runs: Runs) -> None:
    fields = runs.own.ask("{ __schema { mutationType { fields { name } } } }")["__schema"]["mutationType"]["fields"]
    assert {field["name"] for field in fields} == {
        "set_flow_run_states", "set_task_run_states", "get_or_create_task_run", "get_or_create_task_run_info",
        "set_flow_run_name", "set_task_run_name", "update_flow_run_heartbeat", "update_task_run_heartbeat",
        "cancel_flow_run", "write_run_logs", "create_task_run_artifact", "update_task_run_artifact",
        "delete_task_run_artifact",
    }  # fmt: skip
    text = 'mutation { create_flow_run(input: {flow_id: "%s"}) { id } }'
    answer = runs.own.answer(text % uuid.uuid4())
    assert answer.status_code == 400
    assert f"the token of flow run {runs.run_id}" in answer.json()["errors"][0]["message"]


def test_it_opens_nothing_but_graphql(runs: Runs) -> None:
    server, headers = runs.own.server, runs.own.headers
    assert requests.get(f"{server.url}/health", headers=headers, timeout=30).json() == {"status": "ok"}
    for path in ("/", "/metrics", f"/flow_runs/{runs.run_id}/end", f"/agents/{uuid.uuid4()}/wake", "/runs"):
        answer = requests.get(server.url + path, headers=headers, timeout=30)
        assert answer.status_code == 403, path
    assert server.post("/poke", headers=headers).status_code == 403
    answer = server.post("/graphql", json={"query": "{ hello }"}, headers=headers)
    assert "X-Flowherd-Lane" not in answer.headers
    assert "run-tokens" in answer.headers["X-Flowherd-Extensions"]


def test_it_reads_only_secrets_that_its_flow_names(runs: Runs, secrets: list[str]) -> None:
    query = "query($name: String!) { secret_value(name: $name) }"
    for name in secrets[:2]:
        assert runs.own.ask(query, {"name": name}) == {"secret_value": f"value of {name}"}
    body = runs.own.answer(query, {"name": secrets[2]}).json()
    assert body["data"] == {"secret_value": None}
    assert f"secrets=['{secrets[2]}']" in body["errors"][0]["message"]


def revoked(client: RunClient) -> str:
    answer = client.answer("{ hello }")
    assert answer.status_code == 401, answer.text
    assert answer.json()["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}
    return str(answer.json()["errors"][0]["message"])


def test_it_ends_with_the_run(closed_server: ServerProcess) -> None:
    everything = Client(closed_server)
    run_id = everything.create_run()
    own = RunClient(closed_server, run_id)
    assert "is Scheduled" in revoked(own)
    everything.report(run_id, "Submitted", 1)
    own.report(run_id, "Running")
    own.report(run_id, "Success")
    assert "is Success" in revoked(own)
    # Only a last line is still taken for some seconds.
    own.do("write_run_logs", logs=[{"flow_run_id": run_id, "message": "the last line"}])
    assert "is Success" in own.refused("set_flow_run_name", flow_run_id=run_id, name="late")
    assert "is Success" in own.refused("set_flow_run_states", states=[report(run_id, "Scheduled")])
    assert everything.run(run_id, "log_lines")["log_lines"] == 1
    # A person starts it again: the second claim has a token of its own.
    everything.report(run_id, "Scheduled")
    assert "is Scheduled" in revoked(own)
    assert own.answer("mutation { write_run_logs(input: {logs: []}) { success } }").status_code == 401
    version = everything.run(run_id)["version"]
    everything.report(run_id, "Submitted", version)
    assert "claimed again" in revoked(own)
    again = RunClient(closed_server, run_id, version)
    again.report(run_id, "Running")
    everything.do("delete_flow_run", flow_run_id=run_id)
    assert "no such run" in revoked(again)


def test_a_request_that_ends_the_run_can_change_nothing_after_that(closed_server: ServerProcess) -> None:
    everything = Client(closed_server)
    run_id, _ = everything.going_run()
    own = RunClient(closed_server, run_id)
    text = (
        "mutation($end: set_flow_run_states_input!, $name: set_flow_run_name_input!) {"
        " set_flow_run_states(input: $end) { states { id } } set_flow_run_name(input: $name) { success } }"
    )
    given = {"end": {"states": [report(run_id, "Success")]}, "name": {"flow_run_id": run_id, "name": "late"}}
    body = own.answer(text, given).json()
    assert body["data"]["set_flow_run_name"] is None
    assert "no longer valid" in body["errors"][0]["message"]
    assert everything.run(run_id, "name state")["state"] == "Success"


def test_a_forged_token_is_refused(closed_server: ServerProcess) -> None:
    run_id, _ = Client(closed_server).going_run()
    forged = RunClient(closed_server, run_id)
    forged.headers = {"Authorization": f"Bearer {make_run_token('guessed', run_id, 1)}"}
    assert "missing or wrong" in revoked(forged)

"""What only Prefect's hosted service had: secrets, key-value pairs, artifacts, tag limits, tenants."""

from __future__ import annotations

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.dialect import Client

NOBODY = "00000000-0000-0000-0000-000000000000"
SECRET_QUERY = "query($name: String!) { secret_value(name: $name) }"


def limit(client: Client, tag: str, number: int) -> str:
    return str(client.do("update_task_tag_limit", tag=tag, limit=number)["id"])


@pytest.mark.parametrize("value", ["plain", '{"a": 1}', {"a": [1, None]}, [1], 3, False, "ü\n"])
def test_a_secret_comes_back_as_it_was_set(client: Client, value: Any) -> None:
    name = str(uuid.uuid4())
    assert client.do("set_secret", name=name, value="before") == {"success": True}
    client.do("set_secret", name=name, value=value)
    assert client.ask(SECRET_QUERY, {"name": name})["secret_value"] == value
    assert name in client.ask("query{secret_names}")["secret_names"]
    client.do("delete_secret", name=name)
    assert name not in client.ask("query{secret_names}")["secret_names"]
    assert client.refused("delete_secret", name=name) == "No value found for the requested key"


def test_an_unknown_secret_is_refused_in_the_words_that_clients_know(client: Client) -> None:
    body = client.answer(SECRET_QUERY, {"name": "nothing"}).json()
    assert body["data"] == {"secret_value": None}
    assert body["errors"][0]["message"] == "No value found for the requested key"


def test_secrets_are_not_a_table_and_not_logged(client: Client) -> None:
    value = f"hidden-{uuid.uuid4()}"
    client.do("set_secret", name=str(uuid.uuid4()), value=value)
    assert client.answer("{ secret { value } }").status_code == 400
    assert client.answer("{ tenant(where: {secrets: {}}) { id } }").status_code == 400
    assert value not in client.server.stderr
    files = [
        path for path in client.server.data_dir.iterdir() if path.is_file() and value.encode() in path.read_bytes()
    ]
    assert files  # it is not encrypted, as docs/dialect.md says
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}


def test_a_key_has_one_value_until_it_is_deleted(client: Client) -> None:
    key = str(uuid.uuid4())
    pair = client.do("set_key_value", key=key, value={"a": 1})["id"]
    assert client.do("set_key_value", key=key, value=[1, "x"])["id"] == pair
    query = f'query {{ key_value(where: {{key: {{_eq: "{key}"}}}}) {{ id value }} }}'
    assert client.ask(query)["key_value"] == [{"id": pair, "value": [1, "x"]}]
    client.do("delete_key_value", key_value_id=pair)
    assert client.ask(query)["key_value"] == []
    assert "not found" in client.refused("delete_key_value", key_value_id=pair)
    assert "larger" in client.refused("set_key_value", key=key, value="x" * 1024 * 1024)


def test_artifacts_can_be_read_and_changed_and_are_deleted_with_their_task_run(client: Client) -> None:
    run_id, tasks = client.going_run("a")
    given = {"task_run_id": tasks["a"], "kind": "link", "tenant_id": None}
    artifact = client.do("create_task_run_artifact", **given, data={"link": "http://x"})["id"]
    query = f'{{ task_run_by_pk(id: "{tasks["a"]}") {{ artifacts {{ id kind data }} }} }}'
    assert client.ask(query)["task_run_by_pk"]["artifacts"] == [
        {"id": artifact, "kind": "link", "data": {"link": "http://x"}}
    ]
    client.do("update_task_run_artifact", task_run_artifact_id=artifact, data={"link": "http://y"})
    assert client.ask(query)["task_run_by_pk"]["artifacts"][0]["data"] == {"link": "http://y"}
    client.do("delete_task_run_artifact", task_run_artifact_id=artifact)
    assert client.ask(query)["task_run_by_pk"]["artifacts"] == []
    for operation, more in (("update_task_run_artifact", {"data": {}}), ("delete_task_run_artifact", {})):
        assert "not found" in client.refused(operation, task_run_artifact_id=artifact, **more)
    assert "not found" in client.refused("create_task_run_artifact", task_run_id=NOBODY, kind="link", data={})
    assert "larger" in client.refused("create_task_run_artifact", **given, data={"x": "x" * 1024 * 1024})
    kept = client.do("create_task_run_artifact", **given, data={"link": "http://x"})["id"]
    client.do("delete_flow_run", flow_run_id=run_id)
    assert client.ask(f'{{ task_run_artifact_by_pk(id: "{kept}") {{ id }} }}')["task_run_artifact_by_pk"] is None


def test_a_tag_limit_can_be_set_and_read_and_deleted(client: Client) -> None:
    tag = str(uuid.uuid4())
    limit_id = limit(client, tag, 3)
    assert limit(client, tag, 2) == limit_id
    query = f'query {{ task_tag_limit(where: {{tag: {{_eq: "{tag}"}}}}) {{ limit }} }}'
    assert client.ask(query)["task_tag_limit"] == [{"limit": 2}]
    client.do("delete_task_tag_limit", limit_id=limit_id)
    assert client.ask(query)["task_tag_limit"] == []
    assert "not found" in client.refused("delete_task_tag_limit", limit_id=limit_id)
    assert "0 or more" in client.refused("update_task_tag_limit", tag=tag, limit=-1)


def test_no_more_task_runs_of_a_tag_run_than_its_limit_when_many_start_at_once(client: Client) -> None:
    tag = str(uuid.uuid4())
    limit(client, tag, 2)
    going = [client.going_run(tag) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda run: client.report_task(run[1][tag], "Running", 0), going))
    assert sorted(statuses) == ["QUEUED"] * 4 + ["SUCCESS"] * 2


def test_a_task_run_that_is_queued_waits_in_its_process_and_runs_when_a_slot_is_free(client: Client) -> None:
    tag, other = str(uuid.uuid4()), str(uuid.uuid4())
    limit(client, tag, 1)
    _, first = client.going_run(tag)
    second_run, second = client.going_run(tag, other, run_config={"labels": [tag]})
    assert client.report_task(first[tag], "Running", 0) == "SUCCESS"
    assert client.report_task(second[other], "Running", 0) == "SUCCESS"  # without the tag
    for version in (0, 1, 1):
        assert client.report_task(second[tag], "Running", version) == "QUEUED"
    found = client.task_run(second[tag], "state version state_message state_start_time serialized_state")
    assert (found["state"], found["version"], found["state_start_time"]) == ("Queued", 1, None)
    assert tag in found["state_message"]
    assert found["serialized_state"]["state"]["type"] == "Pending"
    assert client.queue(tag) == []  # no agent gets it, because its process waits for the slot
    client.report_task(first[tag], "Success")
    assert client.report_task(second[tag], "Running", 1) == "SUCCESS"
    assert client.run(second_run) == {"state": "Running", "version": 3}


@pytest.mark.parametrize(
    "end", ["Failed", "Retrying", "Cached", "run Failed", "run Cancelled", "run deleted", "limit deleted"]
)
def test_a_slot_is_free_as_soon_as_its_task_run_has_ended_in_any_way(client: Client, end: str) -> None:
    tag = str(uuid.uuid4())
    limit_id = limit(client, tag, 1)
    first_run, first = client.going_run(tag)
    _, second = client.going_run(tag)
    client.report_task(first[tag], "Running", 0)
    assert client.report_task(second[tag], "Running", 0) == "QUEUED"
    if end == "run deleted":
        client.do("delete_flow_run", flow_run_id=first_run)
    elif end == "limit deleted":
        client.do("delete_task_tag_limit", limit_id=limit_id)
    elif end.startswith("run "):
        client.report(first_run, end.removeprefix("run "))
    else:
        client.report_task(first[tag], end)
    assert client.report_task(second[tag], "Running", 1) == "SUCCESS"


def test_running_again_needs_no_second_slot_and_a_limit_of_zero_lets_no_task_run(client: Client) -> None:
    tag = str(uuid.uuid4())
    limit(client, tag, 1)
    _, tasks = client.going_run(tag)
    for _ in range(2):
        assert client.report_task(tasks[tag], "Running") == "SUCCESS"
    client.report_task(tasks[tag], "Failed")
    limit(client, tag, 0)
    assert client.report_task(tasks[tag], "Running") == "QUEUED"


def test_a_request_is_for_the_tenant_of_its_header(client: Client) -> None:
    slug = f"t-{uuid.uuid4()}"
    tenant = client.do("create_tenant", name=slug, slug=slug)["id"]
    text = "{ auth_info { tenant_id } user { default_membership { tenant_id tenant { slug } } } }"

    def asked(query: str, variables: Any = None, tenant_id: str = tenant) -> Any:
        body = {"query": query, "variables": json.dumps(variables)}
        return client.server.post("/", json=body, headers={"X-PREFECT-TENANT-ID": tenant_id}).json()

    assert asked(text)["data"] == {
        "auth_info": {"tenant_id": tenant},
        "user": [{"default_membership": {"tenant_id": tenant, "tenant": {"slug": slug}}}],
    }
    assert client.ask(text)["user"][0]["default_membership"]["tenant"] == {"slug": "default"}
    assert "not found" in asked(text, tenant_id=NOBODY)["errors"][0]["message"]
    setting = "mutation($input: set_secret_input!) { set_secret(input: $input) { success } }"
    name = str(uuid.uuid4())
    asked(setting, {"input": {"name": name, "value": "theirs"}})
    client.do("set_secret", name=name, value="ours")
    assert asked(SECRET_QUERY, {"name": name})["data"] == {"secret_value": "theirs"}
    assert client.ask(SECRET_QUERY, {"name": name}) == {"secret_value": "ours"}

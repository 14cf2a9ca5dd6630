"""Projects, flows and their versions, and creating runs of flows."""

from __future__ import annotations

import base64
import gzip
import json
import re
import uuid
from typing import Any

import pytest

from tests.support.dialect import Client

NOBODY = "00000000-0000-0000-0000-000000000000"


def test_a_tenant_exists_from_the_start_and_the_token_is_an_agents(client: Client) -> None:
    found = client.ask("query { hello tenant { id slug name } auth_info { api_token_scope tenant_id } }")
    assert found["tenant"][0]["slug"] == "default"
    assert found["auth_info"] == {"api_token_scope": "RUNNER", "tenant_id": found["tenant"][0]["id"]}


def test_a_projects_name_is_unique_and_the_refusal_is_the_one_that_clients_know(client: Client) -> None:
    name = str(uuid.uuid4())
    project_id = client.do("create_project", name=name, description="mine")["id"]
    assert client.refused("create_project", name=name) == "Uniqueness violation."
    query = "query($name: String!) { project(where: {name: {_eq: $name}}) { id description tenant { slug } } }"
    assert client.ask(query, {"name": name})["project"] == [
        {"id": project_id, "description": "mine", "tenant": {"slug": "default"}}
    ]


def test_a_new_version_replaces_the_previous_one(client: Client) -> None:
    project = client.project()
    first = client.flow(project, name="f")
    second = client.flow(project, name="f")
    other = client.flow(client.project(), name="f")
    query = '{ flow(where: {id: {_in: ["%s", "%s", "%s"]}}) { id version archived version_group_id flow_group_id } }'
    rows = client.ask(query % (first, second, other))["flow"]
    assert [(row["id"], row["version"], row["archived"]) for row in rows] == [
        (first, 1, True),
        (second, 2, False),
        (other, 1, False),
    ]
    assert rows[0]["flow_group_id"] == rows[1]["flow_group_id"] != rows[2]["flow_group_id"]
    assert "archived" in client.refused("create_flow_run", flow_id=first)
    run_id = client.do("create_flow_run", version_group_id=rows[0]["version_group_id"])["id"]
    assert client.run(run_id, "flow_id") == {"flow_id": second}


def test_a_run_that_waits_is_not_lost_when_its_flow_is_registered_again(client: Client) -> None:
    project, label = client.project(), str(uuid.uuid4())
    run_id = client.create_run(client.flow(project, name="f"), labels=[label])
    client.flow(project, name="f")
    assert client.queue(label) == [run_id]


def test_registering_the_same_again_under_its_key_is_the_same_flow(client: Client) -> None:
    given = {"project_id": client.project(), "serialized_flow": {"name": "f"}, "idempotency_key": "k"}
    first = client.do("create_flow", **given)["id"]
    assert client.do("create_flow", **given)["id"] == first
    assert client.do("create_flow", **{**given, "idempotency_key": "l"})["id"] != first


def test_a_compressed_flow_is_the_same_flow(client: Client) -> None:
    document = {"name": "f", "tasks": [{"slug": "a-1", "tags": ["t"], "retry_delay": 1.5}], "extra": {"kept": True}}
    text = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
    flow_id = client.do("create_flow_from_compressed_string", project_id=client.project(), serialized_flow=text)["id"]
    found = client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ serialized_flow tasks {{ slug tags retry_delay }} }} }}')
    assert found["flow_by_pk"] == {
        "serialized_flow": document,
        "tasks": [{"slug": "a-1", "tags": ["t"], "retry_delay": "00:00:01.5"}],
    }


def test_a_flow_with_an_edge_to_nowhere_leaves_nothing_behind(client: Client) -> None:
    project = client.project()
    edges = [{"upstream_task": {"slug": "a"}, "downstream_task": {"slug": "b"}}]
    document = {"name": "f", "tasks": [{"slug": "a"}], "edges": edges}
    assert "'b'" in client.refused("create_flow", project_id=project, serialized_flow=document)
    assert client.ask(f'{{ project_by_pk(id: "{project}") {{ flows {{ id }} }} }}')["project_by_pk"]["flows"] == []


def test_a_run_has_a_pending_task_run_for_each_task_and_a_state_history_from_its_first_state(client: Client) -> None:
    edges = [{"upstream_task": {"slug": "a-1"}, "downstream_task": {"slug": "b-1"}, "mapped": True}]
    tasks = [{"slug": "a-1", "cache_key": "k"}, {"slug": "b-1"}, {"slug": "b-1"}]
    run_id = client.create_run(client.flow(tasks=tasks, edges=edges))
    found = client.run(
        run_id,
        "name state version states { state version start_time } scheduled_start_time "
        "task_runs(order_by: {task: {slug: asc}}) { map_index state version cache_key task { slug mapped } "
        "states { state } }",
    )
    assert (found["state"], found["version"]) == ("Scheduled", 1)
    assert "-" in found["name"]
    state = {"state": "Scheduled", "version": 1, "start_time": found["scheduled_start_time"]}
    assert found["states"] == [state]
    pending = {"map_index": -1, "state": "Pending", "version": 0, "states": [{"state": "Pending"}]}
    assert found["task_runs"] == [
        {**pending, "cache_key": "k", "task": {"slug": "a-1", "mapped": False}},
        {**pending, "cache_key": None, "task": {"slug": "b-1", "mapped": True}},
    ]


def test_the_same_idempotency_key_is_the_same_run_of_one_flow(client: Client) -> None:
    flow = client.flow()
    first = client.create_run(flow, idempotency_key="k", flow_run_name="mine")
    assert client.create_run(flow, idempotency_key="k", flow_run_name="other") == first
    assert client.create_run(client.flow(), idempotency_key="k") != first
    assert client.run(first, "name version") == {"name": "mine", "version": 1}


def test_given_parameters_override_the_flows_defaults(client: Client) -> None:
    parameters = [
        {"name": "a", "default": 1, "required": False},
        {"name": "b", "default": {"x": [1]}, "required": False},
        {"name": "c", "default": None, "required": True},
    ]
    flow = client.flow(parameters=parameters)
    assert "c" in client.refused("create_flow_run", flow_id=flow, parameters={"a": 2})
    run_id = client.create_run(flow, parameters={"a": 2, "c": 3}, context={"k": "v"})
    assert client.run(run_id, "parameters context") == {
        "parameters": {"a": 2, "b": {"x": [1]}, "c": 3},
        "context": {"k": "v"},
    }


RUN_CONFIG: dict[str, Any] = {"run_config": {"type": "LocalRun", "labels": ["of", "config"]}}
ENVIRONMENT: dict[str, Any] = {"environment": {"type": "LocalEnvironment", "labels": ["of-environment"]}}


@pytest.mark.parametrize(
    ("flow", "run", "labels"),
    [
        ({}, {}, []),
        (ENVIRONMENT, {}, ["of-environment"]),
        ({**ENVIRONMENT, **RUN_CONFIG}, {}, ["config", "of"]),
        (RUN_CONFIG, {"run_config": {"type": "LocalRun", "labels": ["given"]}}, ["given"]),
        (RUN_CONFIG, {"run_config": {"type": "LocalRun"}}, ["config", "of"]),
        (RUN_CONFIG, {"labels": ["b", "a", "b"], "run_config": {"labels": ["given"]}}, ["a", "b"]),
        (RUN_CONFIG, {"labels": []}, []),
    ],
)
def test_labels_come_from_the_first_source_that_sets_them_even_to_an_empty_list(
    client: Client, flow: dict[str, Any], run: dict[str, Any], labels: list[str]
) -> None:
    assert client.run(client.create_run(client.flow(**flow), **run), "labels") == {"labels": labels}


def test_a_runs_own_run_config_overrides_the_flows(client: Client) -> None:
    flow, own = client.flow(**RUN_CONFIG), {"type": "LocalRun", "working_dir": "/"}
    assert client.run(client.create_run(flow), "run_config") == RUN_CONFIG
    assert client.run(client.create_run(flow, run_config=own), "run_config") == {"run_config": own}


def test_archiving_a_flow_cancels_its_waiting_runs(client: Client) -> None:
    flow = client.flow()
    waiting, going = client.create_run(flow), client.create_run(flow)
    client.report(going, "Submitted")
    client.do("archive_flow", flow_id=flow)
    assert client.run(waiting, "state state_message")["state"] == "Cancelled"
    assert client.run(going, "state") == {"state": "Submitted"}


def test_deleting_a_run_deletes_its_states_tasks_and_logs(client: Client) -> None:
    run_id = client.create_run(client.flow(tasks=[{"slug": "a"}]))
    client.do("write_run_logs", logs=[{"flow_run_id": run_id, "message": "m"}])
    client.do("delete_flow_run", flow_run_id=run_id)
    where = f'(where: {{flow_run_id: {{_eq: "{run_id}"}}}}) {{ id }}'
    found = client.ask(f"{{ flow_run_state{where} task_run{where} log{where} }}")
    assert found == {"flow_run_state": [], "task_run": [], "log": []}
    assert client.run(run_id) is None
    assert "not found" in client.refused("delete_flow_run", flow_run_id=run_id)


@pytest.mark.parametrize(
    ("operation", "given", "reason"),
    [
        ("create_project", {"name": " "}, "empty"),
        ("create_project", {"name": "x", "tenant_id": NOBODY}, "tenant .* not found"),
        ("create_flow", {"project_id": NOBODY, "serialized_flow": {"name": "f"}}, "project .* not found"),
        ("create_flow", {"project_id": NOBODY, "serialized_flow": "f"}, "must be a JSON object"),
        ("create_flow_run", {"flow_id": NOBODY}, "flow .* not found"),
        ("create_flow_run", {}, "exactly one of"),
        ("create_flow_run", {"flow_id": NOBODY, "parameters": [1]}, "parameters must be a JSON object"),
        ("set_schedule_active", {"flow_id": NOBODY}, "flow .* not found"),
        ("archive_flow", {"flow_id": NOBODY}, "flow .* not found"),
        ("cancel_flow_run", {"flow_run_id": NOBODY}, "flow run .* not found"),
        (
            "set_flow_run_states",
            {"states": [{"flow_run_id": NOBODY, "state": {"type": "Failed"}}]},
            "State update failed",
        ),
        ("write_run_logs", {"logs": [{"flow_run_id": NOBODY, "message": "m"}]}, "flow run .* not found"),
    ],
)
def test_unknown_ids_and_invalid_input_are_refused_with_a_reason(
    client: Client, operation: str, given: Any, reason: str
) -> None:
    assert re.search(reason, client.refused(operation, **given))

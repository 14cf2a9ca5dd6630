"""Tenants and projects, and registering flows as Prefect's clients do: whole, or with tasks and edges in batches."""

from __future__ import annotations

import base64
import gzip
import json
import uuid
from typing import Any

import pytest

from tests.support.dialect import Client

NOBODY = "00000000-0000-0000-0000-000000000000"


def task(slug: str, **more: Any) -> dict[str, Any]:
    """Return a task as Prefect 1.4 serializes it."""
    return {
        "slug": slug,
        "name": slug.rpartition("-")[0],
        "tags": [],
        "max_retries": 0,
        "retry_delay": None,
        "cache_key": None,
        "cache_for": None,
        "timeout": None,
        "type": "prefect.tasks.core.function.FunctionTask",
        "trigger": {"fn": "prefect.triggers.all_successful", "kwargs": {}},
        "__version__": "1.4.1",
        **more,
    }


def edge(upstream: str, downstream: str, key: str | None = None, mapped: bool = False) -> dict[str, Any]:
    ends = {"upstream_task": {"slug": upstream}, "downstream_task": {"slug": downstream}}
    return {**ends, "key": key, "mapped": mapped, "flattened": False, "__version__": "1.4.1"}


def compressed(document: Any) -> str:
    return base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()


def stored(client: Client, flow_id: str) -> Any:
    fields = "version archived is_schedule_active serialized_flow tasks { slug mapped } edges { key mapped }"
    return client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ {fields} }} }}')["flow_by_pk"]


def register(client: Client, project_id: str, tasks: list[Any], edges: list[Any], **more: Any) -> str:
    """Register as `flow.register` of Prefect 1.4 does: the flow, then batches, of which the last may be empty."""
    document = {"name": "f", "parameters": [], "reference_tasks": [], "schedule": None, **more.pop("document", {})}
    flow_id = client.do(
        "create_flow_from_compressed_string",
        project_id=project_id,
        serialized_flow=compressed(document),
        set_schedule_active=False,
        version_group_id=None,
        **more,
    )["id"]
    for start in range(0, len(tasks) + 1, 2):
        client.do("register_tasks", flow_id=flow_id, serialized_tasks=tasks[start : start + 2])
    for start in range(0, len(edges) + 1, 2):
        client.do("register_edges", flow_id=flow_id, serialized_edges=edges[start : start + 2])
    return str(flow_id)


def test_a_flow_whose_tasks_come_in_batches_equals_one_that_came_whole(client: Client) -> None:
    tasks = [task("a-1"), task("b-1"), task("c-1"), task("d-1")]
    edges = [edge("a-1", "b-1", "x", mapped=True), edge("a-1", "c-1"), edge("b-1", "d-1"), edge("c-1", "d-1")]
    batched = stored(client, register(client, client.project(), tasks, edges))
    whole = client.flow(name="f", parameters=[], reference_tasks=[], schedule=None, tasks=tasks, edges=edges)
    same = stored(client, whole)
    del same["serialized_flow"]["storage"]
    assert batched == {**same, "is_schedule_active": False}
    assert batched["serialized_flow"]["tasks"] == tasks
    assert batched["serialized_flow"]["edges"] == edges
    assert [row["mapped"] for row in batched["tasks"]] == [False, True, False, False]


def test_a_batch_that_is_sent_again_changes_nothing(client: Client) -> None:
    tasks, edges = [task("a-1"), task("b-1")], [edge("a-1", "b-1"), edge("a-1", "b-1", "x")]
    flow_id = register(client, client.project(), tasks, edges)
    before = stored(client, flow_id)
    client.do("register_edges", flow_id=flow_id, serialized_edges=edges)
    client.do("register_tasks", flow_id=flow_id, serialized_tasks=[*tasks, *tasks])
    assert stored(client, flow_id) == before
    assert len(before["edges"]) == 2


def test_an_interrupted_registration_can_be_repeated_with_its_key(client: Client) -> None:
    project = client.project()
    first = register(client, project, [task("a-1")], [], idempotency_key="k")
    again = register(client, project, [task("a-1"), task("b-1")], [edge("a-1", "b-1")], idempotency_key="k")
    assert again == first
    assert [row["slug"] for row in stored(client, first)["tasks"]] == ["a-1", "b-1"]
    assert register(client, project, [], [], idempotency_key="l") != first


def test_a_run_of_a_registered_flow_has_a_task_run_for_each_task(client: Client) -> None:
    flow_id = register(client, client.project(), [task("a-1", cache_key="k"), task("b-1")], [edge("a-1", "b-1")])
    found = client.run(client.create_run(flow_id), "task_runs { cache_key task { slug } }")
    assert found["task_runs"] == [
        {"cache_key": "k", "task": {"slug": "a-1"}},
        {"cache_key": None, "task": {"slug": "b-1"}},
    ]


def test_one_bad_part_refuses_its_batch(client: Client) -> None:
    flow_id = register(client, client.project(), [task("a-1")], [])
    message = client.refused("register_edges", flow_id=flow_id, serialized_edges=[edge("a-1", "b-1")])
    assert "'b-1' as its downstream_task" in message
    message = client.refused("register_tasks", flow_id=flow_id, serialized_tasks=[task("b-1"), {"name": "c"}])
    assert message == "serialized_tasks[1].slug must be a string"
    assert "must be a list" in client.refused("register_tasks", flow_id=flow_id, serialized_tasks="a")
    assert "not found" in client.refused("register_tasks", flow_id=NOBODY, serialized_tasks=[])
    assert [row["slug"] for row in stored(client, flow_id)["tasks"]] == ["a-1"]


def test_an_uncompressed_flow_is_registered_in_the_same_steps(client: Client) -> None:
    given = {"project_id": client.project(), "set_schedule_active": False, "version_group_id": None}
    flow_id = client.do("create_flow", serialized_flow={"name": "f", "__version__": "1.4.1"}, **given)["id"]
    client.do("register_tasks", flow_id=flow_id, serialized_tasks=[task("a-1")])
    assert [row["slug"] for row in stored(client, flow_id)["tasks"]] == ["a-1"]


def test_a_schedule_that_lacks_a_required_parameter_is_an_error(client: Client) -> None:
    clock: dict[str, Any] = {"type": "IntervalClock", "interval": 3_600_000_000}
    parameters = [{"name": "x", "required": True, "default": None, "slug": "x"}]
    project = client.project()
    document = {"schedule": {"clocks": [clock]}, "parameters": parameters}
    flow_id = register(client, project, [], [], document=document)
    assert "x" in client.refused("set_schedule_active", flow_id=flow_id)
    assert not stored(client, flow_id)["is_schedule_active"]
    document["schedule"] = {"clocks": [{**clock, "parameter_defaults": {"x": 1}}]}
    assert client.do("set_schedule_active", flow_id=register(client, project, [], [], document=document)) == {
        "success": True
    }


def test_creating_a_tenant_again_returns_it_and_the_first_stays_the_first(client: Client) -> None:
    first = client.ask("{ tenant { id } }")["tenant"][0]["id"]
    slug = f"a-{uuid.uuid4()}"
    tenant_id = client.do("create_tenant", name="A tenant", slug=slug)["id"]
    assert client.do("create_tenant", name="A tenant", slug=slug)["id"] == tenant_id
    assert client.do("create_tenant", name="default", slug="default")["id"] == first
    assert "taken" in client.refused("create_tenant", name="Another", slug=slug)
    assert client.ask("{ tenant { id } }")["tenant"][0]["id"] == first
    name = str(uuid.uuid4())
    assert client.do("create_project", name=name, tenant_id=tenant_id) != client.do("create_project", name=name)


@pytest.mark.parametrize("slug", ["", "A", "a b", "-a", "a-", "a--b", "ä", "a_b", "a\n"])
def test_a_malformed_tenant_slug_is_refused(client: Client, slug: str) -> None:
    assert "slug" in client.refused("create_tenant", name="x", slug=slug)


def test_deleting_a_project_deletes_its_flows_and_wakes_their_agents(client: Client) -> None:
    project = client.project()
    agent = client.agent()
    flow_id = client.flow(project, tasks=[task("a-1")])
    run_id = client.create_run(flow_id)
    agent.report(run_id, "Submitted", 1, "c")
    seen = agent.wake()
    client.do("delete_project", project_id=project)
    assert agent.wake(seen) > seen
    assert stored(client, flow_id) is None
    assert client.run(run_id) is None
    assert client.ask(f'{{ project_by_pk(id: "{project}") {{ id }} }}')["project_by_pk"] is None
    assert "not found" in client.refused("delete_project", project_id=project)


def test_deleting_a_flow_deletes_its_runs_and_with_the_last_flow_its_group(client: Client) -> None:
    project = client.project()
    old, new = client.flow(project, name="f"), client.flow(project, name="f")
    group = client.ask(f'{{ flow_by_pk(id: "{new}") {{ flow_group {{ id flows {{ id }} }} }} }}')["flow_by_pk"]
    assert [flow["id"] for flow in group["flow_group"]["flows"]] == [old, new]
    query = f'{{ flow_group_by_pk(id: "{group["flow_group"]["id"]}") {{ flows {{ id }} }} }}'
    run_id = client.create_run(new)
    client.do("delete_flow", flow_id=new)
    assert client.run(run_id) is None
    assert client.ask(query)["flow_group_by_pk"] == {"flows": [{"id": old}]}
    client.do("delete_flow", flow_id=old)
    assert client.ask(query)["flow_group_by_pk"] is None
    assert "not found" in client.refused("delete_flow", flow_id=old)

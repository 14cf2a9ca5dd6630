"""Settings of a flow group, and their effect on runs, schedules and engines."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from flowherd import Agent
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from tests.support.dialect import Client

NOBODY = "00000000-0000-0000-0000-000000000000"
HOURLY = {"type": "IntervalClock", "interval": 3_600_000_000}


def group_of(client: Client, flow_id: str, fields: str = "id") -> Any:
    return client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ flow_group {{ {fields} }} }} }}')["flow_by_pk"]["flow_group"]


def settings_of(client: Client, flow_id: str) -> Any:
    return client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ settings }} }}')["flow_by_pk"]["settings"]


def auto_runs(client: Client, flow_id: str) -> list[Any]:
    query = "(where: {auto_scheduled: {_eq: true}}, order_by: {scheduled_start_time: asc})"
    fields = "scheduled_start_time parameters labels"
    return list(
        client.ask(f'{{ flow_by_pk(id: "{flow_id}") {{ flow_runs{query} {{ {fields} }} }} }}')["flow_by_pk"][
            "flow_runs"
        ]
    )


def test_labels_of_the_group_override_those_of_the_flow_until_they_are_removed(client: Client) -> None:
    flow = client.flow(run_config={"type": "LocalRun", "labels": ["own"]})
    group = group_of(client, flow)["id"]
    for labels, expected in ((["b", "a", "b"], ["a", "b"]), ([], []), (None, ["own"])):
        client.do("set_flow_group_labels", flow_group_id=group, labels=labels)
        assert client.run(client.create_run(flow), "labels") == {"labels": expected}
    assert group_of(client, flow, "labels") == {"labels": None}


def test_the_groups_run_config_overrides_the_flows_and_a_given_one_overrides_both(client: Client) -> None:
    own, groups, given = ({"type": "LocalRun", "env": {"x": x}, "labels": [x]} for x in ("own", "group", "given"))
    flow = client.flow(run_config=own)
    client.do("set_flow_group_run_config", flow_group_id=group_of(client, flow)["id"], run_config=groups)
    assert client.run(client.create_run(flow), "run_config labels") == {"run_config": groups, "labels": ["group"]}
    found = client.run(client.create_run(flow, run_config=given), "run_config labels")
    assert found == {"run_config": given, "labels": ["given"]}
    client.do("set_flow_group_run_config", flow_group_id=group_of(client, flow)["id"], run_config=None)
    assert client.run(client.create_run(flow), "run_config") == {"run_config": own}


def test_parameters_are_truthy_defaults_then_the_groups_then_the_given_ones(client: Client) -> None:
    parameters = [
        {"name": "a", "default": 1, "required": False},
        {"name": "b", "default": 1, "required": False},
        {"name": "c", "default": None, "required": True},
        {"name": "d", "default": 0, "required": False},
    ]
    flow = client.flow(parameters=parameters)
    client.do(
        "set_flow_group_default_parameters", flow_group_id=group_of(client, flow)["id"], parameters={"b": 2, "c": 2}
    )
    found = client.run(client.create_run(flow, parameters={"c": 3}), "parameters")
    assert found == {"parameters": {"a": 1, "b": 2, "c": 3}}


def test_settings_of_the_group_hold_for_the_next_version_too(client: Client) -> None:
    project = client.project()
    first = client.flow(project, name="f")
    client.do("set_flow_group_labels", flow_group_id=group_of(client, first)["id"], labels=["x"])
    client.do("disable_flow_heartbeat", flow_id=first)
    second = client.flow(project, name="f")
    assert client.run(client.create_run(second), "labels") == {"labels": ["x"]}
    assert settings_of(client, second) == {"heartbeat_enabled": False}


@pytest.mark.parametrize(
    ("operation", "setting"),
    [
        ("flow_heartbeat", "heartbeat_enabled"),
        ("flow_lazarus_process", "lazarus_enabled"),
        ("flow_version_lock", "version_locking_enabled"),
    ],
)
def test_a_switch_can_be_read_from_the_flow_and_from_its_group(client: Client, operation: str, setting: str) -> None:
    flow = client.flow()
    assert settings_of(client, flow) == {}
    for word, enabled in (("disable", False), ("enable", True)):
        client.do(f"{word}_{operation}", flow_id=flow)
        assert settings_of(client, flow) == {setting: enabled}
        assert group_of(client, flow, "settings") == {"settings": {setting: enabled}}


def test_without_the_version_lock_running_is_accepted_with_any_version(client: Client) -> None:
    flow = client.flow(tasks=[{"slug": "a"}])
    client.do("disable_flow_version_lock", flow_id=flow)
    run_id = client.create_run(flow)
    client.report(run_id, "Submitted", 1)
    client.report(run_id, "Running", 1)
    task_run_id = client.run(run_id, "task_runs { id }")["task_runs"][0]["id"]
    client.report_task(task_run_id, "Running", 7)
    other = client.create_run(flow)
    assert "version" in client.report_refused(other, "Submitted", 7)  # the version of a claim is always checked


def test_a_schedule_of_the_group_replaces_the_flows_until_it_is_deleted(client: Client) -> None:
    flow = client.flow(schedule={"clocks": [HOURLY]})
    before = auto_runs(client, flow)
    group = group_of(client, flow)["id"]
    clock = {"cron": "30 4 * * *", "parameter_defaults": {"x": 1}, "labels": ["night"]}
    client.do("set_flow_group_schedule", flow_group_id=group, cron_clocks=[clock], timezone="Asia/Tokyo")
    runs = auto_runs(client, flow)
    assert len(runs) == 4
    assert all(run["scheduled_start_time"][11:16] == "19:30" for run in runs)
    assert [(run["parameters"], run["labels"]) for run in runs] == [({"x": 1}, ["night"])] * 4
    client.do("set_flow_group_schedule", flow_group_id=group, interval_clocks=[{"interval": 7200}])
    assert all(int(run["scheduled_start_time"][11:13]) % 2 == 0 for run in auto_runs(client, flow))
    client.do("delete_flow_group_schedule", flow_group_id=group)
    assert [run["scheduled_start_time"] for run in auto_runs(client, flow)][:2] == [
        run["scheduled_start_time"] for run in before
    ][:2]
    assert group_of(client, flow, "schedule") == {"schedule": None}


def test_a_schedule_of_the_group_of_a_flow_without_one_begins_when_it_is_switched_on(client: Client) -> None:
    flow = client.flow()
    group = group_of(client, flow)["id"]
    client.do("set_flow_group_schedule", flow_group_id=group, interval_clocks=[{"interval": 3600}])
    assert auto_runs(client, flow) == []
    assert client.do("set_schedule_active", flow_id=flow) == {"success": True}
    assert len(auto_runs(client, flow)) == 4


def test_a_schedule_that_cannot_be_followed_is_refused_and_the_present_one_stays(client: Client) -> None:
    flow = client.flow(schedule={"clocks": [HOURLY]})
    given = {"flow_group_id": group_of(client, flow)["id"]}
    assert "cron" in client.refused("set_flow_group_schedule", **given, cron_clocks=[{"cron": "often"}])
    assert "clock" in client.refused("set_flow_group_schedule", **given)
    zoned = {"interval_clocks": [{"interval": 3600}], "timezone": "Nowhere/Else"}
    assert "Nowhere" in client.refused("set_flow_group_schedule", **given, **zoned)
    assert group_of(client, flow, "schedule") == {"schedule": None}
    assert len(auto_runs(client, flow)) == 4


def test_a_description_is_kept_until_it_is_removed(client: Client) -> None:
    flow = client.flow()
    for description in ("for **people**", None):
        client.do("set_flow_group_description", flow_group_id=group_of(client, flow)["id"], description=description)
        assert group_of(client, flow, "description") == {"description": description}


@pytest.mark.parametrize(
    ("operation", "given"),
    [
        ("set_flow_group_labels", {"labels": None}),
        ("set_flow_group_schedule", {"interval_clocks": [{"interval": 60}]}),
        ("delete_flow_group_schedule", {}),
    ],
)
def test_an_unknown_group_is_refused(client: Client, operation: str, given: dict[str, Any]) -> None:
    assert "not found" in client.refused(operation, flow_group_id=NOBODY, **given)


def test_renaming_a_run_and_changing_its_labels_which_wakes_other_agents(client: Client) -> None:
    label = str(uuid.uuid4())
    agent = client.agent(label)
    run_id = client.create_run(labels=["elsewhere"])
    seen = agent.wake(agent.wake(), timeout=0)
    client.do("set_flow_run_name", flow_run_id=run_id, name="mine")
    client.do("set_flow_run_labels", flow_run_id=run_id, labels=[label, label])
    assert client.run(run_id, "name labels version") == {"name": "mine", "labels": [label], "version": 1}
    assert agent.wake(seen) > seen
    assert client.queue(label) == [run_id]
    assert "not found" in client.refused("set_flow_run_name", flow_run_id=NOBODY, name="mine")
    assert "empty" in client.refused("set_flow_run_name", flow_run_id=run_id, name=" ")


def test_an_agent_can_read_its_agent_config(client: Client) -> None:
    config = client.do("create_agent_config", name="mine", settings={"labels": ["x"], "health_check": True})["id"]
    query = f'query {{ agent_config(where: {{id: {{_eq: "{config}"}}}}) {{ settings }} }}'
    assert client.ask(query)["agent_config"] == [{"settings": {"labels": ["x"], "health_check": True}}]
    given = {"type": "LocalAgent", "name": str(uuid.uuid4()), "labels": [], "tenant_id": None}
    agent = client.do("register_agent", **given, agent_config_id=config)["id"]
    of_agent = f'{{ agent_by_pk(id: "{agent}") {{ agent_config {{ id settings }} }} }}'
    client.do("update_agent_config", agent_config_id=config, settings={"y": 1})
    assert client.ask(of_agent)["agent_by_pk"] == {"agent_config": {"id": config, "settings": {"y": 1}}}
    client.do("delete_agent_config", agent_config_id=config)
    assert client.ask(of_agent)["agent_by_pk"] == {"agent_config": None}
    assert "not found" in client.refused("register_agent", **given, agent_config_id=config)


def test_a_deleted_agent_is_not_listed_and_its_runs_stay(client: Client) -> None:
    agent = client.agent()
    run_id = client.create_run()
    agent.report(run_id, "Submitted", 1)
    client.do("delete_agent", agent_id=agent.agent_id)
    assert client.ask(f'{{ agent_by_pk(id: "{agent.agent_id}") {{ id }} }}')["agent_by_pk"] is None
    assert client.run(run_id, "state agent { id }") == {"state": "Submitted", "agent": None}
    assert agent.queue() is not None  # its process may still be running
    assert "not found" in client.refused("delete_agent", agent_id=agent.agent_id)


def test_flowherds_agent_registers_with_the_configuration_whose_id_it_was_given(client: Client) -> None:
    config = client.do("create_agent_config", name="ours", settings={})["id"]
    name = f"agent-{uuid.uuid4()}"
    agent = Agent(name, agent_config_id=config, backend=GraphQLBackend(GraphQLTransport(client.server.url)))
    agent.agent_connect()
    agent.cleanup()
    found = client.ask(f'{{ agent(where: {{name: {{_eq: "{name}"}}}}) {{ type agent_config {{ id }} }} }}')["agent"]
    assert found == [{"type": "Agent", "agent_config": {"id": config}}]

"""Schedules create runs ahead of time."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.support.dialect import Client
from tests.support.server import running_server
from tests.support.waiting import wait_until

#: Number of runs that the shared server creates ahead.
AHEAD = 4
HOURLY = {"clocks": [{"type": "IntervalClock", "interval": 3_600_000_000}]}
EVERY_SECOND = {"clocks": [{"type": "IntervalClock", "interval": 1_000_000}]}


def runs(client: Client, flow: str) -> list[dict[str, Any]]:
    fields = "id state scheduled_start_time auto_scheduled parameters labels idempotency_key"
    return client.ask(
        f'{{ flow_run(where: {{flow_id: {{_eq: "{flow}"}}}}, order_by: {{scheduled_start_time: asc}}) {{ {fields} }} }}'
    )["flow_run"]


def test_switching_a_schedule_off_deletes_its_runs_that_have_not_started(client: Client) -> None:
    flow = client.flow(schedule=HOURLY)
    created = runs(client, flow)
    assert [(run["state"], run["auto_scheduled"]) for run in created] == [("Scheduled", True)] * AHEAD
    assert created[0]["idempotency_key"] == f"auto-scheduled:{created[0]['scheduled_start_time']}"
    by_hand = client.create_run(flow)
    client.report(created[0]["id"], "Submitted")
    client.do("set_schedule_inactive", flow_id=flow)
    assert {run["id"] for run in runs(client, flow)} == {created[0]["id"], by_hand}
    assert client.do("set_schedule_active", flow_id=flow) == {"success": True}
    assert [run["scheduled_start_time"] for run in runs(client, flow) if run["auto_scheduled"]] == [
        run["scheduled_start_time"] for run in created
    ]


def test_a_schedule_that_is_registered_inactive_creates_no_runs(client: Client) -> None:
    flow = client.flow(schedule=HOURLY, set_schedule_active=False)
    assert runs(client, flow) == []
    assert client.ask(f'{{ flow_by_pk(id: "{flow}") {{ is_schedule_active }} }}')["flow_by_pk"] == {
        "is_schedule_active": False
    }


def test_switching_a_schedule_on_twice_creates_its_runs_once(client: Client) -> None:
    flow = client.flow(schedule=HOURLY)
    before = runs(client, flow)
    client.do("set_schedule_active", flow_id=flow)
    assert runs(client, flow) == before


def test_two_clocks_that_fire_together_with_different_parameters_are_two_runs(client: Client) -> None:
    clock = HOURLY["clocks"][0]
    clocks = [{**clock, "parameter_defaults": {"n": 1}}, {**clock, "labels": ["b"]}]
    created = runs(client, client.flow(schedule={"clocks": clocks}))
    assert len(created) == AHEAD
    assert created[0]["scheduled_start_time"] == created[1]["scheduled_start_time"]
    assert sorted((run["parameters"].get("n", 0), run["labels"]) for run in created[:2]) == [(0, ["b"]), (1, [])]


def test_a_flow_without_a_schedule_cannot_be_switched_on(client: Client) -> None:
    assert client.do("set_schedule_active", flow_id=client.flow()) == {"success": False}


def test_a_new_version_takes_over_the_schedule(client: Client) -> None:
    project = client.project()
    first = client.flow(project, name="f", schedule=HOURLY)
    second = client.flow(project, name="f", schedule=HOURLY)
    assert (len(runs(client, first)), len(runs(client, second))) == (0, AHEAD)
    assert "archived" in client.refused("set_schedule_active", flow_id=first)


def test_a_schedule_whose_runs_would_lack_a_parameter_is_refused(client: Client) -> None:
    parameters = [{"name": "x", "required": True}]
    flow = client.flow(schedule=HOURLY, parameters=parameters, set_schedule_active=False)
    assert "x" in client.refused("set_schedule_active", flow_id=flow)
    assert runs(client, flow) == []


def test_required_parameters_are_also_checked_for_a_clock_that_fires_in_years(client: Client) -> None:
    parameters = [{"name": "x", "required": True}]
    given = {**HOURLY["clocks"][0], "parameter_defaults": {"x": 1}}
    late = {
        "type": "IntervalClock",
        "interval": 3_600_000_000,
        "start_date": {"dt": "2199-01-01T00:00:00", "tz": "UTC"},
    }
    flow = client.flow(schedule={"clocks": [given, late]}, parameters=parameters, set_schedule_active=False)
    assert "x" in client.refused("set_schedule_active", flow_id=flow)
    flow = client.flow(schedule={"clocks": [given]}, parameters=parameters)
    assert len(runs(client, flow)) == AHEAD


def test_filters_and_adjustments_of_a_schedule_apply_to_its_runs(client: Client) -> None:
    def function(name: str, **kwargs: Any) -> dict[str, Any]:
        return {"fn": f"prefect.schedules.{name}", "kwargs": kwargs}

    schedule = {
        **HOURLY,
        "or_filters": [function("filters.at_time", t="//time:09:00:00")],
        "adjustments": [function("adjustments.add", interval="//timedelta:60.0")],
    }
    times = [run["scheduled_start_time"] for run in runs(client, client.flow(schedule=schedule))]
    assert [time[11:19] for time in times] == ["09:01:00"] * AHEAD


def test_a_schedule_that_this_server_cannot_follow_is_refused_before_anything_is_stored(client: Client) -> None:
    document = {"name": "f", "schedule": {"clocks": [{"type": "RRuleClock"}]}}
    project = client.project()
    assert "RRuleClock" in client.refused("create_flow", project_id=project, serialized_flow=document)
    assert client.ask(f'{{ project_by_pk(id: "{project}") {{ flows {{ id }} }} }}')["project_by_pk"]["flows"] == []


@pytest.mark.slow
def test_a_schedule_creates_further_runs_and_wakes_the_agent_for_each(client: Client) -> None:
    label = str(uuid.uuid4())
    agent = client.agent(label)
    seen = agent.wake()
    flow = client.flow(schedule=EVERY_SECOND, run_config={"type": "LocalRun", "labels": [label]})
    try:
        for _ in range(2):
            seen = agent.wake(seen, timeout=30)
        assert len(client.queue(label)) >= 2
        wait_until(lambda: len(runs(client, flow)) > AHEAD + 1, what="runs beyond those that were created at first")
    finally:
        client.do("archive_flow", flow_id=flow)


@pytest.mark.slow
def test_a_schedule_goes_on_after_a_restart_and_waiting_runs_still_wake(tmp_path: Path, no_process_left: None) -> None:
    with running_server(tmp_path / "data", schedule_ahead=1) as server:
        client = Client(server)
        flow = client.flow(schedule=EVERY_SECOND, run_config={"type": "LocalRun", "labels": ["a"]})
        server.kill()
        server.restart()
        agent = client.agent("a")
        assert agent.wake(agent.wake(), timeout=30) > 0
        wait_until(lambda: len(runs(client, flow)) >= 3)
        keys = [run["idempotency_key"] for run in runs(client, flow)]
        assert len(keys) == len(set(keys))


def test_the_next_times_of_a_schedule_are_told_also_if_it_is_switched_off(client: Client) -> None:
    clock = {"type": "FlowherdCron", "cron": "30 2 1 1 *", "timezone": "Asia/Tokyo", "end": "2999-01-01T00:00:00Z"}
    flow = client.flow(schedule={"clocks": [clock]}, set_schedule_active=False)
    times = client.ask(f'{{ schedule_times(flow_id: "{flow}", count: 900) }}')["schedule_times"]
    assert len(times) == 900
    assert {time[4:19] for time in times} == {"-12-31T17:30:00"}
    assert runs(client, flow) == []
    assert client.ask(f'{{ schedule_times(flow_id: "{client.flow()}", count: 1) }}')["schedule_times"] == []

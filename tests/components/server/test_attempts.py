"""A run that ended badly is tried again as its flow says, and what each attempt came to is kept."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from flowherd_server.errors import Refused
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, format_time
from flowherd_server.store.tables import FLOW_RUN_ATTEMPT
from tests.support.ruled_flows import World

FAILED = {"reason": "exited", "grade": "proven", "figures": {"exit_code": 3, "cpu_time_s": 0.25}}


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def attempts(world: World, run_id: str) -> list[Any]:
    query = select(FLOW_RUN_ATTEMPT).where(FLOW_RUN_ATTEMPT.c.flow_run_id == run_id).order_by(FLOW_RUN_ATTEMPT.c.number)
    with world.database.reading() as connection:
        return list(connection.execute(query).mappings())


def started(world: World, **rules: Any) -> str:
    run_id = world.run(world.flow(**rules), "it")
    world.start(run_id)
    return run_id


def test_a_failed_run_waits_and_is_tried_again_with_growing_pauses(world: World) -> None:
    run_id = started(world, retries=2, retry_delay_s=30, retry_backoff=2)
    for pause_s in (30, 60):
        world.pass_time(seconds=5)
        world.report(run_id, "Failed", **FAILED)
        assert world.states(run_id) == ["Retrying"]
        world.pass_time(seconds=pause_s - 1)
        assert world.due() == []
        world.pass_time(seconds=1)
        assert world.due() == [run_id]
        world.start(run_id)
    world.report(run_id, "Failed", **FAILED)
    assert world.states(run_id) == ["Failed"]
    assert [(each["number"], each["state"]) for each in attempts(world, run_id)] == [(n, "Failed") for n in (1, 2, 3)]


def test_an_attempt_keeps_its_cause_its_figures_and_its_times(world: World) -> None:
    run_id = started(world, retries=1)
    begun = world.now
    world.pass_time(seconds=2)
    world.report(run_id, "Failed", **FAILED)
    [first] = attempts(world, run_id)
    assert (first["reason"], first["grade"], first["exit_code"]) == ("exited", "proven", 3)
    assert (first["cpu_time"], first["start_time"], first["end_time"]) == (250_000, begun, world.now)
    assert world.message(run_id) == "Attempt 1 of 2 ended: Failed: now Failed. The next one starts now."
    world.start(run_id)
    world.pass_time(seconds=1)
    world.report(run_id, "Success", figures={"exit_code": 0})
    assert [each["state"] for each in attempts(world, run_id)] == ["Failed", "Success"]
    assert world.row(run_id)["start_time"] == begun


def test_what_is_tried_again(world: World) -> None:
    cases: list[tuple[list[str] | None, dict[str, Any], str]] = [
        (None, {"reason": "exception"}, "Retrying"),
        (None, {"reason": "timeout"}, "Retrying"),
        (None, {"reason": "memory_limit"}, "Retrying"),
        (None, {"reason": "signal"}, "Retrying"),
        (None, {"reason": "reboot"}, "Failed"),
        (None, {"reason": "lost"}, "Failed"),
        (["lost"], {"reason": "reboot"}, "Retrying"),
        (["lost"], {"reason": "exited", "figures": {"exit_code": 1}}, "Failed"),
        (["exit:75"], {"reason": "exited", "figures": {"exit_code": 75}}, "Retrying"),
        (["exit:75"], {"reason": "exited", "figures": {"exit_code": 1}}, "Failed"),
        (["exit:75"], {"reason": "exited"}, "Failed"),
        # As an agent of 0.1.0 says it.
        (["exit:75"], {"reason": "exited", "message": "The flow process exited with code 75."}, "Retrying"),
    ]
    for retry_on, marks, state in cases:
        run_id = started(world, retries=1, retry_on=retry_on)
        world.report(run_id, "Failed", **marks)
        assert (retry_on, marks, world.states(run_id)) == (retry_on, marks, [state])


def test_a_run_that_was_to_be_cancelled_is_never_tried_again(world: World) -> None:
    run_id = started(world, retries=5)
    world.do("cancel_flow_run", flow_run_id=run_id)
    world.report(run_id, "Failed", **FAILED)
    assert world.states(run_id) == ["Failed"]
    waits = started(world, retries=5, retry_delay_s=60)
    world.report(waits, "Failed", **FAILED)
    world.do("cancel_flow_run", flow_run_id=waits)
    assert world.states(waits) == ["Cancelled"]


def test_an_end_that_is_reported_again_does_not_end_the_next_attempt(world: World) -> None:
    run_id = started(world, retries=3)
    at = format_time(world.now)
    world.report(run_id, "Failed", at=at, **FAILED)
    world.report(run_id, "Failed", at=at, **FAILED)  # its answer was lost
    assert (world.states(run_id), world.row(run_id)["attempt"]) == (["Retrying"], 2)
    world.pass_time(seconds=1)
    world.start(run_id)  # under the same token
    world.report(run_id, "Failed", at=at, **FAILED)
    assert world.states(run_id) == ["Running"]
    assert len(attempts(world, run_id)) == 1


def test_start_and_end_that_come_again_together_change_nothing(world: World) -> None:
    run_id = world.run(world.flow(retries=3), "it")
    assert world.wins(run_id) == [True]
    marks = {"claim": f"a/{run_id}", "at": format_time(world.now)}
    states = [
        {"flow_run_id": run_id, "state": {"type": kind, "context": {"flowherd": marks}}}
        for kind in ("Running", "Failed")
    ]
    for _ in range(2):
        world.do("set_flow_run_states", states=states)
        assert world.states(run_id) == ["Retrying"]
    assert len(attempts(world, run_id)) == 1


def test_a_report_of_the_agent_that_had_an_earlier_attempt_is_refused(world: World) -> None:
    run_id = started(world, retries=3)
    world.report(run_id, "Failed", **FAILED)
    with pytest.raises(Refused, match="tried again since"):
        world.report(run_id, "Running")
    world.pass_time(seconds=1)
    assert world.wins(run_id, agent="b") == [True]
    for state in ("Running", "Failed", "Success"):
        with pytest.raises(Refused, match="tried again since"):
            world.report(run_id, state)
    world.report(run_id, "Success", agent="b")
    assert world.states(run_id) == ["Success"]


def test_a_run_that_waits_for_its_next_attempt_counts_as_running(world: World) -> None:
    flow_id = world.flow(retries=1, retry_delay_s=60, overlap="skip")
    first = world.run(flow_id, "first")
    world.start(first)
    world.report(first, "Failed", **FAILED)
    second = world.run(flow_id, "second")
    assert world.states(first, second) == ["Retrying", "Skipped"]
    world.pass_time(seconds=60)
    world.start(first)


def test_replace_takes_the_place_of_a_run_that_waits_for_its_next_attempt(world: World) -> None:
    flow_id = world.flow(retries=1, retry_delay_s=60, overlap="replace")
    first = world.run(flow_id, "first")
    world.start(first)
    world.report(first, "Failed", **FAILED)
    second = world.run(flow_id, "second")
    assert world.states(first, second) == ["Cancelled", "Scheduled"]
    assert world.wins(second) == [True]


def test_a_run_that_a_person_starts_again_is_a_further_attempt(world: World) -> None:
    run_id = started(world, retries=1)
    world.report(run_id, "Success")
    world.do("set_flow_run_states", states=[{"flow_run_id": run_id, "state": {"type": "Scheduled"}}])
    world.pass_time(seconds=1)
    world.start(run_id)
    world.report(run_id, "Failed", **FAILED)
    assert [(each["number"], each["state"]) for each in attempts(world, run_id)] == [(1, "Success"), (2, "Failed")]


def test_flows_of_prefect_are_not_tried_again_by_the_server(world: World) -> None:
    project = world.do("create_project", name="q")["id"]
    document = {"name": "p", "storage": {"type": "Local"}, "flowherd": {"retries": 1}}
    with pytest.raises(Refused, match="only commands and plain Python"):
        world.do("create_flow", project_id=project, serialized_flow=document)


def test_a_pause_is_never_longer_than_a_day(world: World) -> None:
    run_id = started(world, retries=1000, retry_delay_s=80_000, retry_backoff=1000)
    world.report(run_id, "Failed", **FAILED)
    world.pass_time(seconds=80_000)
    world.start(run_id)
    world.report(run_id, "Failed", **FAILED)
    assert world.row(run_id)["state_start_time"] - world.now == 86_400 * SECOND_US


def test_a_flow_that_is_unregistered_is_not_tried_again(world: World) -> None:
    flow_id = world.flow(retries=3, retry_delay_s=60)
    waits, runs = (world.run(flow_id, name) for name in ("waits", "runs"))
    for run_id in (waits, runs):
        world.start(run_id)
    world.report(waits, "Failed", **FAILED)
    world.do("archive_flow", flow_id=flow_id)
    assert world.states(waits, runs) == ["Cancelled", "Running"]
    world.report(runs, "Failed", **FAILED)
    assert world.states(runs) == ["Failed"]
    assert world.message(runs) == "now Failed. It was attempt 1 of 4, and its flow is registered no more."


def test_a_run_of_a_version_that_was_replaced_is_tried_again(world: World) -> None:
    run_id = started(world, retries=1)
    world.flow()
    world.report(run_id, "Failed", **FAILED)
    assert world.states(run_id) == ["Retrying"]

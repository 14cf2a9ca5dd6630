"""apply_flows: what belongs to a project, what differs, and that all of it is done or nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from sqlalchemy import select

from flowherd.flow_description import differences
from flowherd_server.errors import Refused
from flowherd_server.store.database import Database
from flowherd_server.store.tables import FLOW, FLOW_RUN, PROJECT
from tests.support.mutations import fuzz, mutated
from tests.support.ruled_flows import AHEAD, MINUTE_US, World


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def flow(name: str, *argv: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "storage": {"type": "Command", "argv": [*argv] or ["true"]}, **more}


def daily(hour: int, zone: str = "UTC") -> dict[str, Any]:
    clock = {"type": "FlowherdCron", "cron": f"0 {hour} * * *", "timezone": zone, "start": None, "end": None}
    return {"schedule": {"clocks": [clock]}}


def every_minute(start: str) -> dict[str, Any]:
    start_date = {"dt": start, "tz": "UTC"}
    return {"schedule": {"clocks": [{"type": "IntervalClock", "interval": MINUTE_US, "start_date": start_date}]}}


def apply(world: World, *flows: dict[str, Any], project: str = "shop", **options: Any) -> dict[str, dict[str, Any]]:
    changes = world.do("apply_flows", project=project, flows=list(flows), **options)["changes"]
    return {change["name"]: change for change in changes}


def actions(world: World, *flows: dict[str, Any], **options: Any) -> dict[str, str]:
    return {name: change["action"] for name, change in apply(world, *flows, **options).items()}


def rows(world: World, table: Any, *where: Any) -> list[Any]:
    with world.database.reading() as connection:
        return list(connection.execute(select(table).where(*where).order_by(table.c.seq)).mappings())


def live(world: World) -> dict[str, int]:
    return {row["name"]: row["version"] for row in rows(world, FLOW, ~FLOW.c.archived)}


def waiting(world: World, flow_id: str) -> int:
    return len(rows(world, FLOW_RUN, FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.state == "Scheduled"))


def test_only_what_differs_becomes_a_new_version(world: World) -> None:
    assert actions(world, flow("a", **daily(3)), flow("b")) == {"a": "registered", "b": "registered"}
    assert actions(world, flow("a", **daily(3)), flow("b")) == {"a": "same", "b": "same"}
    changed = apply(world, flow("a", **daily(4)), flow("b"))["a"]
    assert (changed["action"], changed["version"]) == ("changed", 2)
    assert changed["differences"] == [{"key": "cron", "before": "0 3 * * *", "after": "0 4 * * *"}]
    assert live(world) == {"a": 2, "b": 1}
    assert waiting(world, changed["id"]) == AHEAD
    assert len(rows(world, FLOW_RUN)) == AHEAD  # those of the earlier version are gone


def test_flows_that_the_file_has_no_longer_stay_without_prune(world: World) -> None:
    old = apply(world, flow("a"), flow("old", **daily(3)))["old"]
    first = world.run(old["id"], "by hand")
    old = apply(world, flow("a"), flow("old", "false", **daily(3)))["old"]
    runs = [world.run(old["id"], name) for name in ("going on", "waits")]
    world.start(runs[0])
    assert actions(world, flow("a")) == {"a": "same", "old": "left"}
    gone = apply(world, flow("a"), prune=True)["old"]
    assert (gone["action"], gone["cancelled"], gone["running"]) == ("unregistered", 2, 1)
    assert world.states(first, *runs) == ["Cancelled", "Running", "Cancelled"]
    assert live(world) == {"a": 1}
    assert waiting(world, old["id"]) == 0
    assert actions(world, flow("a"), prune=True) == {"a": "same"}
    # In the file again, it is registered again, as its next version.
    assert apply(world, flow("a"), flow("old"))["old"]["version"] == 3


def test_what_another_project_or_a_person_has_registered_is_left_alone(world: World) -> None:
    by_hand = world.flow(name="by hand")
    apply(world, flow("a"), project="other")
    assert actions(world, flow("a"), prune=True) == {"a": "registered"}
    assert actions(world, prune=True, project="p") == {}
    with pytest.raises(Refused, match="not from a project file: by hand"):
        apply(world, flow("new"), flow("by hand"), project="p")
    assert not rows(world, FLOW, FLOW.c.name == "new")
    assert live(world) == {"by hand": 1, "a": 1}
    assert actions(world, flow("by hand"), project="p", take_over=True) == {"by hand": "taken over"}
    assert [row["id"] for row in rows(world, FLOW, FLOW.c.name == "by hand")] != []
    assert actions(world, flow("by hand"), project="p") == {"by hand": "same"}
    assert actions(world, project="p", prune=True) == {"by hand": "unregistered"}
    assert rows(world, FLOW, FLOW.c.id == by_hand)[0]["archived"]


def test_what_was_registered_by_hand_since_becomes_what_the_file_says(world: World) -> None:
    apply(world, flow("a", "mine"), project="p")
    world.flow(name="a")
    changed = apply(world, flow("a", "mine"), project="p")["a"]
    assert (changed["action"], changed["version"]) == ("changed", 3)
    assert changed["differences"] == [{"key": "command", "before": ["true"], "after": ["mine"]}]


def test_nothing_is_done_if_one_of_the_flows_is_refused(world: World) -> None:
    wrong = flow("wrong", schedule={"clocks": [{"type": "FlowherdCron", "cron": "0 0 30 2 *", "timezone": "UTC"}]})
    with pytest.raises(Refused, match="flow wrong: "):
        apply(world, flow("a", **daily(3)), wrong)
    assert (live(world), rows(world, FLOW_RUN), len(rows(world, PROJECT))) == ({}, [], 1)
    with pytest.raises(Refused, match="'a' is there twice"):
        apply(world, flow("a"), flow("a"))
    with pytest.raises(Refused, match="name cannot be empty"):
        apply(world, project=" ")


def test_a_dry_run_tells_the_same_and_changes_nothing(world: World) -> None:
    apply(world, flow("a", **daily(3)), flow("old"))
    before = [rows(world, table) for table in (FLOW, FLOW_RUN, PROJECT)]
    world.effects.schedules = False
    tried = actions(world, flow("a", **daily(4)), flow("new", **daily(5)), prune=True, dry_run=True)
    assert tried == {"a": "changed", "new": "registered", "old": "unregistered"}
    assert [rows(world, table) for table in (FLOW, FLOW_RUN, PROJECT)] == before
    assert not world.effects.schedules
    assert actions(world, flow("x"), project="unknown", dry_run=True) == {"x": "registered"}
    assert len(rows(world, PROJECT)) == 2
    assert actions(world, flow("a", **daily(4)), flow("new", **daily(5)), prune=True) == tried


def test_a_schedule_that_is_paused_stays_so(world: World) -> None:
    flow_id = apply(world, flow("a", **daily(3)))["a"]["id"]
    world.do("set_schedule_inactive", flow_id=flow_id)
    assert apply(world, flow("a", **daily(3)))["a"]["paused"]
    changed = apply(world, flow("a", **daily(4)))["a"]
    assert changed["paused"] and waiting(world, changed["id"]) == 0
    assert not apply(world, flow("a"))["a"]["paused"]
    again = apply(world, flow("a", **daily(4)))["a"]
    assert not again["paused"] and waiting(world, again["id"]) == AHEAD


def test_a_schedule_that_has_ended_creates_no_runs(world: World) -> None:
    ended = daily(3)
    ended["schedule"]["clocks"][0]["end"] = "2020-01-01T00:00:00+00:00"
    done = apply(world, flow("a", **ended))["a"]
    assert (done["action"], waiting(world, done["id"])) == ("registered", 0)
    assert apply(world, flow("a", **ended))["a"]["action"] == "same"


def test_an_interval_goes_on_from_where_it_began(world: World) -> None:
    first = apply(world, flow("a", **every_minute("2023-11-14T22:12:30")))["a"]
    assert actions(world, flow("a", **every_minute("2023-11-14T22:12:50"))) == {"a": "same"}
    changed = apply(world, flow("a", "false", **every_minute("2023-11-14T22:12:50")))["a"]
    starts = [
        [run["scheduled_start_time"] for run in rows(world, FLOW_RUN, FLOW_RUN.c.flow_id == flow_id)]
        for flow_id in (first["id"], changed["id"])
    ]
    assert starts[0] == [] and len(starts[1]) == AHEAD
    assert {start % MINUTE_US for start in starts[1]} == {MINUTE_US // 2}


WHOLE = {
    "name": "f",
    "storage": {"type": "Python", "ref": "m:f", "parameters": ["n"], "__version__": "1"},
    "run_config": {
        "type": "LocalRun",
        "env": {"A": "1"},
        "labels": ["a"],
        "limits": {"memory_bytes": 1024, "run_time_s": 60.5},
        "grace_s": 3,
        "secrets": {"S": "env:S"},
    },
    "parameters": [{"name": "n", "default": 1}],
    "schedule": {"clocks": [{"type": "IntervalClock", "interval": 60_000_000, "end_date": {"dt": "2030-01-01"}}]},
    "flowherd": {"overlap": "skip", "retries": 2, "retry_delay_s": 5},
    "tasks": [],
}


@fuzz(60)
@given(mutated(WHOLE))
def test_every_document_that_is_stored_can_be_compared(document: Any) -> None:
    if isinstance(document, dict):
        named = {**document, "name": "f"}
        assert differences(named, named) == []


@pytest.mark.parametrize(("seconds", "written"), [(3, "3s"), (0.5, "0.5s"), (1234567, "1234567s"), (7200.0, "2h")])
def test_durations_are_compared_to_the_last_digit(seconds: float, written: str) -> None:
    before, after = ({**WHOLE, "run_config": {"grace_s": value}} for value in (seconds + 0.25, seconds))
    (found,) = [each for each in differences(before, after) if each["key"] == "grace"]
    assert (found["before"], found["after"]) == (f"{seconds + 0.25}s", written)

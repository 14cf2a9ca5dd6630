"""A pass over schedules: it creates runs where more are due, and does not touch the other flows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import event, func, select, update

from flowherd_server.call import Call, Caller
from flowherd_server.mutations import OPERATIONS
from flowherd_server.schedules.scheduler import schedule_due
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.tables import FLOW, FLOW_RUN

_OPERATIONS = {operation.name: operation for operation in OPERATIONS}
AHEAD = 4
HOURLY = {"clocks": [{"type": "IntervalClock", "interval": 3600 * SECOND_US}]}


class World:
    """Flows with schedules, made by the server's own mutations."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._project = self.do("create_project", name="p")["id"]

    def do(self, name: str, /, **given: Any) -> Mapping[str, Any]:
        operation = _OPERATIONS[name]
        prepared = operation.prepare(given)
        with self.database.writing(durable=False) as connection:
            return operation.handle(Call(connection, Caller(), now_us(), AHEAD), prepared)

    def flow(self, name: str, schedule: Mapping[str, Any] = HOURLY) -> str:
        document = {"name": name, "schedule": schedule}
        flow_id: str = self.do(
            "create_flow", project_id=self._project, serialized_flow=document, set_schedule_active=True
        )["id"]
        return flow_id

    def change(self, flow_id: str, **columns: Any) -> None:
        with self.database.writing() as connection:
            connection.execute(update(FLOW).where(FLOW.c.id == flow_id), columns)

    def runs(self, flow_id: str) -> int:
        with self.database.reading() as connection:
            return int(connection.execute(select(func.count()).where(FLOW_RUN.c.flow_id == flow_id)).scalar_one())

    def forget_runs(self, flow_id: str, **columns: Any) -> None:
        """Delete the flow's runs, as if their times had passed long ago."""
        with self.database.writing() as connection:
            connection.execute(FLOW_RUN.delete().where(FLOW_RUN.c.flow_id == flow_id))
        if columns:
            self.change(flow_id, **columns)

    def scheduled_anew(self) -> int:
        """Carry out one pass. Returns the number of its write transactions."""
        begun: list[object] = []

        def note(connection: object) -> None:
            begun.append(connection)

        event.listen(self.database._durable, "begin", note)
        try:
            _, self.pause_s = schedule_due(self.database, AHEAD)
        finally:
            event.remove(self.database._durable, "begin", note)
        return len(begun)


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_a_pass_costs_what_is_due_and_not_what_exists(world: World) -> None:
    due, other = world.flow("due"), world.flow("other")
    assert world.scheduled_anew() == 0
    for flow_id in (due, other):
        world.forget_runs(flow_id)
    world.change(due, schedule_due=now_us() - 1)
    assert world.scheduled_anew() == 1
    assert (world.runs(due), world.runs(other)) == (AHEAD, 0)
    assert world.scheduled_anew() == 0


def test_the_next_pass_comes_when_half_of_a_schedules_runs_have_started(world: World) -> None:
    world.flow("often", {"clocks": [{"type": "IntervalClock", "interval": 10 * SECOND_US}]})
    world.flow("rarely")
    world.scheduled_anew()
    assert 15 < world.pause_s < 30


def test_flows_of_a_database_that_does_not_say_when_they_are_due_are_looked_at_once(world: World) -> None:
    flow_id = world.flow("flow")
    world.forget_runs(flow_id, schedule_due=None)
    assert (world.scheduled_anew(), world.runs(flow_id)) == (1, AHEAD)
    assert world.scheduled_anew() == 0


def test_a_schedule_that_cannot_be_followed_is_tried_again_later_and_holds_up_no_other(world: World) -> None:
    bad, good = world.flow("bad"), world.flow("good")
    for flow_id in (bad, good):
        world.forget_runs(flow_id, schedule_due=0)
    world.change(bad, schedule={"clocks": [{"type": "NoClock"}]})
    world.scheduled_anew()
    assert (world.runs(bad), world.runs(good)) == (0, AHEAD)
    assert world.scheduled_anew() == 0
    assert 100 < world.pause_s <= 150


def test_a_schedule_that_has_ended_is_not_looked_at_again(world: World) -> None:
    soon = (datetime.now(timezone.utc) + timedelta(seconds=60)).isoformat()
    ended = world.flow("ended", {"clocks": [{"type": "DatesClock", "dates": [soon]}]})
    world.change(ended, schedule={"clocks": [{"type": "DatesClock", "dates": ["2020-01-01T00:00:00"]}]}, schedule_due=0)
    assert world.scheduled_anew() == 1
    world.change(ended, is_schedule_active=False)
    world.change(ended, is_schedule_active=True)
    assert world.scheduled_anew() == 0
    with world.database.reading() as connection:
        due_us = connection.execute(select(FLOW.c.schedule_due)).scalar_one()
    assert due_us > now_us() + 10**15


def test_runs_that_people_have_created_do_not_count_as_runs_of_the_schedule(world: World) -> None:
    flow_id = world.flow("flow")
    world.forget_runs(flow_id, schedule_due=0)
    later = now_us() + 10**15
    world.do("create_flow_run", flow_id=flow_id, scheduled_start_time=later, idempotency_key="zz")
    world.scheduled_anew()
    assert world.runs(flow_id) == 1 + AHEAD

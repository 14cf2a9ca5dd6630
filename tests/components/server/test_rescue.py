"""Runs without a heartbeat: which are rescued, which are left alone, and what is logged about them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select, update

from flowherd_server.call import Call, Caller, Effects
from flowherd_server.mutations import OPERATIONS
from flowherd_server.runs.rescue import Rescue
from flowherd_server.runs.stale_heartbeats import HeartbeatWatch, RescueOptions, StaleHeartbeats
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN, TASK_RUN_STATE
from flowherd_server.store.views import LOG

MINUTE_US = 60 * SECOND_US
TASKS = [{"slug": "once"}, {"slug": "thrice", "name": "thrice", "max_retries": 2, "retry_delay": 30}]
_OPERATIONS = {operation.name: operation for operation in OPERATIONS}


class World:
    """One flow with two tasks, driven by the server's own mutations."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.rescue = Rescue(database, 1, lambda: False)
        project = self.do("create_project", name="p")["id"]
        document = {"name": "f", "tasks": TASKS, "edges": []}
        self.flow = self.do("create_flow", project_id=project, serialized_flow=document)["id"]

    def do(self, name: str, /, **given: Any) -> Mapping[str, Any]:
        operation = _OPERATIONS[name]
        prepared = operation.prepare(given)
        with self.database.writing(durable=False) as connection:
            return operation.handle(Call(connection, Caller(), now_us(), 1), prepared)

    def run(self, state: str = "Running", heartbeat_age_us: int = 11 * MINUTE_US) -> str:
        """Create a flow run that has gone up to `state`, with a heartbeat of that age."""
        run_id: str = self.do("create_flow_run", flow_id=self.flow)["id"]
        for each in ("Submitted", "Running", "Cancelling"):
            self.do("set_flow_run_states", states=[{"flow_run_id": run_id, "state": {"type": each}}])
            if each == state:
                break
        self.age(run_id, heartbeat_age_us)
        return run_id

    def age(self, run_id: str, heartbeat_age_us: int = 11 * MINUTE_US) -> None:
        with self.database.writing(durable=False) as connection:
            heard = {"heartbeat": now_us() - heartbeat_age_us}
            connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == run_id), heard)

    def task(self, run_id: str, slug: str, *states: Any) -> str:
        """Put the task run of `slug` through `states`. Returns its id."""
        text = select(TASK_RUN.c.id).where(TASK_RUN.c.flow_run_id == run_id).order_by(TASK_RUN.c.seq)
        with self.database.reading() as connection:
            found = list(connection.execute(text).scalars())
        task_run_id: str = found[[task["slug"] for task in TASKS].index(slug)]
        for state in states:
            self.do("set_task_run_states", states=[{"task_run_id": task_run_id, "state": {"type": state}}])
        return task_run_id

    def row(self, table: Any, key: str) -> Any:
        with self.database.reading() as connection:
            return connection.execute(select(table).where(table.c.id == key)).mappings().one()

    def log(self) -> list[tuple[str, str, str]]:
        with self.database.reading() as connection:
            return [tuple(row) for row in connection.execute(select(LOG.c.name, LOG.c.level, LOG.c.message))]

    def pass_zombies(self, age_us: int = 10 * MINUTE_US) -> Effects:
        return self.rescue.end_zombies(StaleHeartbeats(before_us=now_us() - age_us))

    def pass_lazarus(self, age_us: int = 10 * MINUTE_US, attempts: int = 3) -> Effects:
        return self.rescue.resurrect(StaleHeartbeats(before_us=now_us() - age_us), attempts)

    def claim(self, run_id: str) -> None:
        """Mark the run as claimed by a flowherd agent."""
        with self.database.writing(durable=False) as connection:
            connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == run_id), {"claim": f"agent/{run_id}"})


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_a_task_run_without_a_heartbeat_is_retried_up_to_its_tasks_max_retries_and_then_failed(world: World) -> None:
    run = world.run()
    task = world.task(run, "thrice", "Running")
    for attempt in (1, 2):
        world.age(run)
        before = now_us()
        effects = world.pass_zombies()
        row = world.row(TASK_RUN, task)
        assert (row["state"], row["serialized_state"]["run_count"]) == ("Retrying", attempt)
        assert 30 * SECOND_US <= row["state_start_time"] - before < 40 * SECOND_US
        assert [at_us > row["state_start_time"] for at_us, _ in effects.due] == [True]
        world.task(run, "thrice", "Running")
    world.age(run)
    world.pass_zombies()
    assert world.row(TASK_RUN, task)["state"] == "Failed"
    assert world.row(FLOW_RUN, run)["state"] == "Running"
    no_heartbeat = "No heartbeat detected from the remote task; "
    assert world.log() == [
        ("prefect-server.ZombieKiller.TaskRun", "ERROR", no_heartbeat + text)
        for text in (
            "retrying the run. This will be retry 1 of 2.",
            "retrying the run. This will be retry 2 of 2.",
            f"marking the task run {task} (None) as failed.",
        )
    ]


def test_a_retry_keeps_the_inputs_that_the_task_had(world: World) -> None:
    run = world.run()
    task = world.task(run, "thrice")
    state = {"type": "Running", "cached_inputs": {"x": {"type": "PrefectResult", "location": "1"}}}
    world.do("set_task_run_states", states=[{"task_run_id": task, "state": state}])
    world.age(run)
    world.pass_zombies()
    assert world.row(TASK_RUN, task)["serialized_state"]["cached_inputs"] == state["cached_inputs"]


def test_a_task_of_a_run_that_is_being_cancelled_fails_and_so_does_the_run(world: World) -> None:
    run = world.run()
    task = world.task(run, "thrice", "Running")
    world.do("cancel_flow_run", flow_run_id=run)
    world.age(run)
    world.pass_zombies()
    assert (world.row(TASK_RUN, task)["state"], world.row(FLOW_RUN, run)["state"]) == ("Failed", "Failed")
    assert world.log()[-1] == (
        "prefect-server.ZombieKiller.FlowRun",
        "ERROR",
        "No heartbeat detected from the flow run; marking the run as failed.",
    )
    assert world.row(FLOW_RUN, run)["end_time"] is not None


@pytest.mark.parametrize("state", ["Submitted", "Running"])
def test_lazarus_reschedules_a_dead_run_three_times_and_then_fails_it(world: World, state: str) -> None:
    run = world.run(state)
    for attempt in (1, 2, 3):
        effects = world.pass_lazarus()
        row = world.row(FLOW_RUN, run)
        assert (row["state"], row["times_resurrected"], row["claim"]) == ("Scheduled", attempt, None)
        assert [at_us <= now_us() for at_us, _ in effects.due] == [True]
        for each in ("Submitted", "Running"):
            world.do("set_flow_run_states", states=[{"flow_run_id": run, "state": {"type": each}}])
        world.age(run)
    world.pass_lazarus()
    assert world.row(FLOW_RUN, run)["state"] == "Failed"
    again = [f"Rescheduled by a Lazarus process. This is attempt {n}." for n in (1, 2, 3)]
    given_up = "A Lazarus process attempted to reschedule this run 3 times without success. Marking as failed."
    expected = [*(("INFO", text) for text in again), ("ERROR", given_up)]
    assert world.log() == [("prefect-server.Lazarus.FlowRun", *line) for line in expected]


@pytest.mark.parametrize("task_state", ["Scheduled", "Paused", "Resume", "Retrying", "Running"])
def test_lazarus_leaves_a_run_with_a_waiting_or_running_task_alone(world: World, task_state: str) -> None:
    run = world.run()
    world.task(run, "once", task_state)
    world.age(run)
    world.pass_lazarus()
    assert world.row(FLOW_RUN, run)["state"] == "Running"


@pytest.mark.parametrize("task_state", ["Success", "Failed", "Submitted", "Mapped"])
def test_finished_and_submitted_tasks_do_not_keep_a_run_alive(world: World, task_state: str) -> None:
    run = world.run()
    if task_state == "Submitted":
        world.task(run, "once", "Retrying")
    world.task(run, "once", task_state)
    world.age(run)
    world.pass_lazarus()
    assert world.row(FLOW_RUN, run)["state"] == "Scheduled"


def test_runs_that_have_a_heartbeat_or_are_finished_or_wait_are_left_alone(world: World) -> None:
    alive, cancelling = world.run(heartbeat_age_us=MINUTE_US), world.run("Cancelling", heartbeat_age_us=MINUTE_US)
    task = world.task(alive, "once", "Running")
    waiting = world.do("create_flow_run", flow_id=world.flow)["id"]
    finished = world.run()
    world.do("set_flow_run_states", states=[{"flow_run_id": finished, "state": {"type": "Success"}}])
    world.pass_zombies()
    world.pass_lazarus()
    states = [world.row(FLOW_RUN, run)["state"] for run in (alive, cancelling, waiting, finished)]
    assert states == ["Running", "Cancelling", "Scheduled", "Success"]
    assert world.row(TASK_RUN, task)["state"] == "Running"
    assert world.log() == []


@pytest.mark.parametrize(
    ("switch", "zombies", "lazarus"),
    [("disable_flow_heartbeat", False, False), ("disable_flow_lazarus_process", True, False)],
)
def test_runs_of_a_group_that_has_switched_rescue_off_are_left_alone(
    world: World, switch: str, zombies: bool, lazarus: bool
) -> None:
    _turn(world, switch)
    run, cancelling = world.run(), world.run("Cancelling")
    task = world.task(run, "once", "Running")
    dead = world.run()
    world.age(run)
    world.pass_zombies()
    assert (world.row(TASK_RUN, task)["state"] == "Failed") is zombies
    assert (world.row(FLOW_RUN, cancelling)["state"] == "Failed") is zombies
    world.pass_lazarus()
    assert (world.row(FLOW_RUN, dead)["state"] == "Scheduled") is lazarus


def _turn(world: World, switch: str) -> None:
    world.do(switch, flow_id=world.flow)


def test_a_heartbeat_between_search_and_rescue_prevents_the_rescue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive = world.run(), world.run()
    if_still = Rescue._if_still

    @contextmanager
    def late(self: Rescue, query: Any, effects: Effects) -> Any:
        world.age(alive, 0)
        with if_still(self, query, effects) as call:
            yield call

    monkeypatch.setattr(Rescue, "_if_still", late)
    world.pass_lazarus()
    assert (world.row(FLOW_RUN, dead)["state"], world.row(FLOW_RUN, alive)["state"]) == ("Scheduled", "Running")


def test_claiming_a_waiting_task_run_counts_as_a_heartbeat(world: World) -> None:
    run = world.run()
    world.task(run, "once", "Retrying")
    world.age(run)
    world.task(run, "once", "Submitted")
    world.pass_lazarus()
    assert world.row(FLOW_RUN, run)["state"] == "Running"
    world.age(run)
    task = world.task(run, "once", "Running")
    world.pass_zombies()
    assert world.row(TASK_RUN, task)["state"] == "Running"


def test_each_rescue_is_recorded_in_the_history(world: World) -> None:
    run = world.run()
    task = world.task(run, "once", "Running")
    world.age(run)
    world.pass_zombies()
    with world.database.reading() as connection:
        query = select(TASK_RUN_STATE.c.state, TASK_RUN_STATE.c.version).where(TASK_RUN_STATE.c.task_run_id == task)
        assert [tuple(row) for row in connection.execute(query)] == [("Pending", 0), ("Running", 1), ("Failed", 2)]


def test_no_run_counts_as_dead_before_the_server_has_been_up_for_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1_000 * SECOND_US]
    monkeypatch.setattr("flowherd_server.runs.stale_heartbeats.now_us", lambda: clock[0])
    watch = HeartbeatWatch(timeout_s=60)

    def after(seconds: float) -> int | None:
        clock[0] += round(seconds * SECOND_US)
        stale_before_us = watch.stale_before(interval_s=20)
        return None if stale_before_us is None else (clock[0] - stale_before_us) // SECOND_US

    assert [after(20) for _ in range(4)] == [None, None, 60, 60]
    # The host was suspended, or its clock was set.
    assert [after(3600), after(20), after(20), after(20)] == [None, None, None, 60]
    assert after(-3600) is None


def test_a_run_that_a_flowherd_agent_has_claimed_waits_for_that_agent(world: World) -> None:
    """The run outlives its agent, which reports its end when it is back. If it were rescheduled, it would run twice."""
    running, cancelling = world.run(), world.run("Cancelling")
    task = world.task(running, "thrice", "Running")
    for run in (running, cancelling):
        world.age(run)
        world.claim(run)
    world.pass_zombies()
    world.pass_lazarus()
    assert world.row(TASK_RUN, task)["state"] == "Running"
    assert [world.row(FLOW_RUN, run)["state"] for run in (running, cancelling)] == ["Running", "Cancelling"]


@pytest.mark.parametrize(("agent_timeout_s", "state"), [(0, "Running"), (60 * 60, "Running"), (60, "Scheduled")])
def test_how_long_a_claimed_run_waits_can_be_set(world: World, agent_timeout_s: float, state: str) -> None:
    run = world.run(heartbeat_age_us=30 * MINUTE_US)
    world.claim(run)
    options = RescueOptions(agent_timeout_s=agent_timeout_s)
    world.rescue.resurrect(options.stale(now_us() - 10 * MINUTE_US), 3)
    assert world.row(FLOW_RUN, run)["state"] == state


def test_a_run_that_no_agent_has_named_since_an_older_copy_was_restored_fails(world: World) -> None:
    """Its agent has an end that it reports, or sends heartbeats; only if neither comes is it failed."""
    forgotten, cancelling, named, prefects = (
        world.run(state) for state in ("Running", "Cancelling", "Running", "Running")
    )
    for run_id in (forgotten, cancelling, named):
        world.claim(run_id)
    restored_us = now_us() - 5 * MINUTE_US
    world.age(named, MINUTE_US)
    early = StaleHeartbeats(before_us=now_us() - 12 * MINUTE_US)
    world.rescue.end_forgotten(early, restored_us)
    assert world.row(FLOW_RUN, forgotten)["state"] == "Running"
    world.rescue.end_forgotten(StaleHeartbeats(before_us=now_us()), restored_us)
    states = {run_id: world.row(FLOW_RUN, run_id)["state"] for run_id in (forgotten, cancelling, named, prefects)}
    assert list(states.values()) == ["Failed", "Failed", "Running", "Running"]
    assert "restored from an older copy" in world.row(FLOW_RUN, forgotten)["state_message"]

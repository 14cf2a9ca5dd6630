"""The rules of flows, at a clock that the test sets: overlap, catch-up and the number of runs under way."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from flowherd_server.errors import Refused
from flowherd_server.rules import settle
from flowherd_server.store.database import Database
from flowherd_server.store.tables import FLOW, FLOW_RUN
from tests.support.ruled_flows import AHEAD, MINUTE_US, World


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def test_a_flow_without_rules_runs_as_often_as_it_is_asked_to(world: World) -> None:
    runs = [world.run(world.flow(), name) for name in "ab"]
    assert world.wins(*runs) == [True, True]


def test_skip_leaves_out_a_run_that_is_created_while_another_runs(world: World) -> None:
    flow_id = world.flow(overlap="skip")
    first = world.run(flow_id, "first")
    world.start(first)
    second = world.run(flow_id, "second")
    assert world.states(second) == ["Skipped"]
    assert world.message(second) == "first of the same flow was still running (overlap: skip)."
    world.report(first, "Success")
    third = world.run(flow_id, "third")
    assert world.wins(third) == [True]


def test_of_two_runs_that_are_due_at_once_two_agents_get_one(world: World) -> None:
    flow_id = world.flow(overlap="skip")
    runs = [world.run(flow_id, name) for name in "ab"]
    assert world.states(*runs) == ["Scheduled", "Scheduled"]
    assert world.wins(runs[0], agent="one") == [True]
    with pytest.raises(Refused):
        world.do("set_flow_run_states", states=[{"flow_run_id": runs[1], "state": {"type": "Submitted"}}])
    assert world.states(*runs) == ["Submitted", "Skipped"]


def test_one_request_with_both_claims_wins_one(world: World) -> None:
    flow_id = world.flow(overlap="queue")
    runs = [world.run(flow_id, name) for name in "abc"]
    assert world.wins(*runs) == [True, False, False]
    assert world.states(*runs) == ["Submitted", "Queued", "Skipped"]
    assert "another run waits already" in world.message(runs[2])


def test_queue_keeps_one_waiting_and_lets_it_go_when_the_other_ends(world: World) -> None:
    flow_id = world.flow(overlap="queue")
    first = world.run(flow_id, "first")
    world.start(first)
    waits, too_many = world.run(flow_id, "waits"), world.run(flow_id, "too many")
    assert world.states(waits, too_many) == ["Queued", "Skipped"]
    assert world.message(waits) == "Waits for room: first of the same flow is still running (overlap: queue)."
    assert world.due() == []
    world.report(first, "Failed")
    assert world.due() == [waits]
    assert world.wins(waits) == [True]


def test_replace_cancels_what_runs_and_starts_when_that_has_ended(world: World) -> None:
    flow_id = world.flow(overlap="replace")
    old = world.run(flow_id, "old")
    world.start(old)
    between, new = world.run(flow_id, "between"), world.run(flow_id, "new")
    assert world.states(old, between, new) == ["Cancelling", "Skipped", "Queued"]
    assert world.message(old) == "Cancelling: between takes its place (overlap: replace)."
    world.report(old, "Cancelled")
    assert world.due() == [new]


def test_replace_takes_the_place_of_a_run_that_only_was_claimed(world: World) -> None:
    flow_id = world.flow(overlap="replace")
    old = world.run(flow_id, "old")
    assert world.wins(old) == [True]
    new = world.run(flow_id, "new")
    assert world.states(old, new) == ["Cancelled", "Scheduled"]


def test_max_running_lets_the_others_wait_in_their_order(world: World) -> None:
    flow_id = world.flow(max_running=2)
    runs = [world.run(flow_id, name) for name in "abcd"]
    assert world.wins(*runs) == [True, True, False, False]
    assert world.states(*runs[2:]) == ["Queued", "Queued"]
    assert world.message(runs[2]) == "Waits for room: 2 runs of the same flow are still running (at most 2 at once)."
    world.report(runs[1], "Success")
    assert world.states(*runs[2:]) == ["Scheduled", "Queued"]
    assert world.wins(runs[2]) == [True]


def test_the_versions_of_a_flow_count_together(world: World) -> None:
    first = world.run(world.flow(), "first")
    world.start(first)
    second = world.run(world.flow(overlap="queue"), "second")
    assert world.states(second) == ["Queued"]
    world.report(first, "Success")  # it has no rules, so the server's next look lets the other go
    world.look()
    assert world.due() == [second]


def test_a_switch_of_the_flow_leaves_its_rules(world: World) -> None:
    flow_id = world.flow(overlap="skip")
    world.do("disable_flow_heartbeat", flow_id=flow_id)
    with world.database.reading() as connection:
        settings = connection.execute(select(FLOW.c.settings).where(FLOW.c.id == flow_id)).scalar_one()
    assert settings == {"heartbeat_enabled": False, "flowherd": {"overlap": "skip", "catch_up": "all"}}


def test_a_run_that_is_due_is_not_lost_when_the_flow_is_registered_again(world: World) -> None:
    world.flow(every_us=5 * MINUTE_US, overlap="skip", catch_up="last")
    world.pass_time(seconds=300)
    [late] = world.due()
    world.flow(every_us=5 * MINUTE_US, overlap="skip", catch_up="last")
    assert world.due() == [late]
    assert world.wins(late) == [True]


def test_a_scheduled_run_is_skipped_at_its_time_though_no_agent_asks(world: World) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, overlap="skip", catch_up="last")
    world.pass_time(seconds=300)
    [run_id] = world.due()
    world.start(run_id)
    world.pass_time(seconds=300)
    assert world.scheduled(flow_id) == [(5, "Running"), (10, "Skipped")]


def test_what_was_due_while_a_run_ran_is_skipped_even_if_the_server_sees_it_at_its_end(world: World) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, overlap="skip", catch_up="last")
    world.pass_time(seconds=300)
    [run_id] = world.due()
    world.start(run_id)
    world.pass_time(scheduler=False, seconds=310)
    world.report(run_id, "Success")
    assert world.scheduled(flow_id) == [(5, "Success"), (10, "Skipped")]


@pytest.mark.parametrize(
    ("catch_up", "left"),
    [("none", []), ("last", [60]), ("all", list(range(5, 65, 5)))],
)
def test_after_an_hour_without_agents(world: World, catch_up: str, left: list[int]) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, catch_up=catch_up)
    for _ in range(63):
        world.pass_time(seconds=60)
    waiting = [minute for minute, state in world.scheduled(flow_id) if state == "Scheduled"]
    assert waiting == left
    skipped = [minute for minute, state in world.scheduled(flow_id) if state == "Skipped"]
    assert sorted(waiting + skipped) == list(range(5, 65, 5))
    assert all(world.wins(*world.due()))


@pytest.mark.parametrize(
    ("catch_up", "left"),
    [("none", []), ("last", [60]), ("all", list(range(5, 65, 5)))],
)
def test_after_an_hour_without_the_server(world: World, catch_up: str, left: list[int]) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, catch_up=catch_up)
    world.pass_time(scheduler=False, seconds=62 * 60)
    early = world.due()
    assert len(early) == AHEAD
    if catch_up != "all":  # before the server has looked at anything, a claim gets none of those that are too late
        assert world.wins(*early) == [False] * AHEAD
    world.gatekeeper.look()  # before the latest run is created, and again after that
    world.look()
    assert [minute for minute, state in world.scheduled(flow_id) if state == "Scheduled"] == left
    assert len(world.due()) == len(left)
    assert all(world.wins(*world.due()))


def test_the_server_looks_when_the_next_run_is_due_and_soon_while_it_holds_one(world: World) -> None:
    assert world.gatekeeper.look()[1] == 60.0
    flow_id = world.flow(every_us=5 * MINUTE_US, overlap="queue")
    assert world.gatekeeper.has_news(world.effects) is False  # in five minutes, and it looks again before that
    world.pass_time(seconds=295)
    assert world.gatekeeper.look()[1] == 5.0
    run_id = world.run(flow_id, "first")
    world.start(run_id)
    world.run(flow_id, "second")
    assert world.gatekeeper.look()[1] == 2.0


def test_a_flow_of_an_earlier_release_runs_what_was_created_ahead_and_no_more(world: World) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US)
    world.pass_time(seconds=62 * 60)
    assert world.scheduled(flow_id) == [(5, "Scheduled"), (10, "Scheduled"), (15, "Scheduled"), (20, "Scheduled")]
    assert all(world.wins(*world.due()))


def test_a_schedule_that_was_switched_off_is_not_made_up_for(world: World) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, catch_up="last")
    world.pass_time(seconds=300)
    world.do("set_schedule_inactive", flow_id=flow_id)
    world.pass_time(seconds=3600)
    world.do("set_schedule_active", flow_id=flow_id)
    world.look()
    assert world.due() == []


def test_a_schedule_that_is_switched_off_takes_its_held_run_with_it(world: World) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, overlap="queue")
    by_hand = world.run(flow_id, "by hand")
    world.start(by_hand)
    world.pass_time(seconds=300)
    assert world.scheduled(flow_id) == [(0, "Running"), (5, "Queued")]
    world.do("set_schedule_inactive", flow_id=flow_id)
    assert world.scheduled(flow_id) == [(0, "Running")]


def test_a_run_that_a_person_has_paused_is_left_alone(world: World) -> None:
    run_id = world.run(world.flow(overlap="queue"), "paused")
    world.do("set_flow_run_states", states=[{"flow_run_id": run_id, "state": {"type": "Paused"}}])
    world.look()
    assert world.states(run_id) == ["Paused"]


def test_an_archived_flow_keeps_no_run_waiting(world: World) -> None:
    flow_id = world.flow(overlap="queue")
    runs = [world.run(flow_id, name) for name in "ab"]
    world.start(runs[0])
    assert world.states(*runs) == ["Running", "Queued"]
    world.do("archive_flow", flow_id=flow_id)
    assert world.states(*runs) == ["Running", "Cancelled"]


def test_an_hour_of_pause_with_overlap_queue_leaves_one_run_and_no_crowd(world: World) -> None:
    flow_id = world.flow(every_us=5 * MINUTE_US, overlap="queue", catch_up="all")
    world.pass_time(seconds=62 * 60)
    due = world.due()
    assert world.wins(*due, agent="one")[0]
    world.look()
    states = [state for _, state in world.scheduled(flow_id)]
    assert states == ["Submitted", "Queued"] + ["Skipped"] * 10


def test_after_a_restore_agents_may_first_tell_what_has_run(world: World) -> None:
    world.flow(every_us=5 * MINUTE_US, catch_up="none", overlap="skip")
    world.pass_time(seconds=301)
    world.offers_runs = False  # in the copy nothing has run yet, and the times of two runs are long over
    world.pass_time(scheduler=False, seconds=600)
    with world.database.reading() as connection:
        query = select(FLOW_RUN.c.id).where(FLOW_RUN.c.scheduled_start_time <= world.now)
        first, second, third = connection.execute(query.order_by(FLOW_RUN.c.scheduled_start_time)).scalars()
    assert world.wins(first, second) == [True, True]
    world.report(first, "Success")
    world.report(second, "Running")
    assert world.states(first, second, third) == ["Success", "Running", "Scheduled"]
    world.offers_runs = True
    world.look()
    assert world.states(first, second, third) == ["Success", "Running", "Skipped"]


def test_clocks_with_parameters_of_their_own_do_not_push_each_other_out(world: World) -> None:
    clocks = [{"type": "IntervalClock", "interval": 5 * MINUTE_US, "parameter_defaults": {"n": n}} for n in (1, 2)]
    document = {"name": "two", "schedule": {"clocks": clocks}, "flowherd": {"catch_up": "last"}}
    project = world.do("create_project", name="q")["id"]
    world.do("create_flow", project_id=project, serialized_flow=document, set_schedule_active=True)
    world.pass_time(seconds=301)
    assert len(world.due()) == 2
    assert all(world.wins(*world.due()))


def test_a_run_that_a_person_asked_for_is_never_too_late(world: World) -> None:
    run_id = world.run(world.flow(catch_up="none", overlap="queue"), "by hand")
    world.pass_time(seconds=7200)
    assert world.wins(run_id) == [True]


def test_rules_that_are_none_are_refused_by_name(world: World) -> None:
    with pytest.raises(Refused, match="overlap must be one of allow, skip, queue, replace"):
        world.flow(overlap="sometimes")
    with pytest.raises(Refused, match="max_running must be a whole number from 1"):
        world.flow(max_running=0)


def test_runs_of_an_earlier_release_have_no_rules(world: World) -> None:
    run_id = world.run(world.flow(), "old")
    with world.database.writing() as connection:
        connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.id == run_id), {"rules": None})
    assert world.wins(run_id) == [True]


def test_what_is_asked_at_each_claim_and_each_time_reads_no_whole_table(world: World) -> None:
    with world.database.reading() as connection:
        for name in ("_DUE", "_HELD", "_UNDER_WAY", "_FLOWS_BETWEEN", "_FLOWS_WITH_HELD", "_NEXT"):
            query = getattr(settle, name)
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", (1,) * query.count("?")).all()
            assert (name, [row[3] for row in plan if row[3].startswith("SCAN")]) == (name, [])

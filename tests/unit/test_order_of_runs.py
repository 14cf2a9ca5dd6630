"""The one order of runs: what runs, what is due, what failed lately, the next run of each flow, the rest."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from typing import NamedTuple

from flowherd.states import RunState
from flowherd.story.order import Group, RunFacts, cut, group_of, in_order

NOW = datetime(2026, 11, 26, 14, 32, tzinfo=timezone.utc)


class Run(NamedTuple):
    name: str
    state: str
    #: Seconds before the present; negative ones are still to come.
    due: float = 0.0
    started: float | None = None
    ended: float | None = None
    flow: str = "f"

    def facts(self) -> RunFacts:
        due, started, ended = (
            None if at is None else NOW - timedelta(seconds=at) for at in (self.due, self.started, self.ended)
        )
        return RunFacts(flow=self.flow, state=self.state, due=due, started=started, ended=ended)


def order(*runs: Run, fold: bool = True) -> list[tuple[str, str, int]]:
    shuffled = list(runs)
    random.Random(5).shuffle(shuffled)
    return [(line.run.name, line.group.value, line.count) for line in in_order(shuffled, Run.facts, NOW, fold=fold)]


def test_the_groups_come_in_their_order_and_each_in_its_own() -> None:
    hour = 3600.0
    runs = [
        Run("longest", "Running", 9, started=500),
        Run("cancelling", "Cancelling", 9, started=400),
        Run("taken", "Submitted", 20),
        Run("very late", "Scheduled", 900),
        Run("late", "Queued", 11),
        Run("newest failure", "TimedOut", hour, hour, ended=10, flow="a"),
        Run("older failure", "Failed", hour, hour, ended=20, flow="b"),
        Run("about to be taken", "Scheduled", 9, flow="c"),
        Run("soon", "Scheduled", -60, flow="d"),
        Run("later", "Retrying", -90, flow="e"),
        Run("good", "Success", hour, hour, ended=5, flow="a"),
        Run("cancelled", "Cancelled", hour, hour, ended=6),
        Run("failed long ago", "Failed", 25 * hour, 25 * hour, ended=24 * hour + 1),
    ]
    found = order(*runs)
    assert [name for name, _, _ in found] == [run.name for run in runs]
    groups = [group for _, group, _ in found]
    assert groups == ["running"] * 3 + ["due"] * 2 + ["failed"] * 2 + ["next"] * 3 + ["ended"] * 3


def test_failures_in_a_row_are_one_line_which_a_good_run_ends() -> None:
    runs = [
        Run("1", "Failed", ended=10),
        Run("2", "Failed", ended=20),
        Run("3", "Success", ended=30),
        Run("4", "Failed", ended=40),
        Run("other", "Failed", ended=15, flow="g"),
    ]
    assert order(*runs) == [("1", "failed", 2), ("other", "failed", 1), ("4", "failed", 1), ("3", "ended", 1)]
    assert [name for name, _, _ in order(*runs, fold=False)] == ["1", "other", "2", "4", "3"]


def test_waiting_runs_are_one_line_per_flow_with_the_soonest() -> None:
    runs = [Run(f"{flow}{n}", "Scheduled", -60.0 * n, flow=flow) for flow in "ab" for n in (1, 2, 3)]
    assert order(*runs) == [("a1", "next", 3), ("b1", "next", 3)]


def test_what_waits_for_a_person_is_never_late() -> None:
    assert group_of(Run("paused", "Paused", 10_000).facts(), NOW) is Group.NEXT
    assert group_of(Run("pending", "Pending", 10_000).facts(), NOW) is Group.NEXT


def test_every_state_has_a_group() -> None:
    for state in RunState:
        assert group_of(Run("x", state.value, 100, 90, 80).facts(), NOW) in Group


def test_a_cut_leaves_what_runs_whole_and_counts_the_lines_that_it_hides() -> None:
    runs = [Run(f"r{n}", "Running", started=n) for n in range(60)]
    runs += [Run(f"n{n}", "Scheduled", -60.0 - n, flow=f"flow {n}") for n in range(5000)]
    lines = in_order(runs, Run.facts, NOW)
    found = cut(lines, {Group.NEXT: 50, Group.FAILED: 20})
    assert [line.group for line in found.shown].count(Group.RUNNING) == 60
    assert len(found.shown) == 110
    assert found.hidden == {Group.NEXT: 4950}
    assert cut(lines, {Group.NEXT: 50}, {Group.NEXT: 9000, Group.ENDED: 7}).hidden == {
        Group.NEXT: 8950,
        Group.ENDED: 7,
    }


def test_failures_that_a_line_stands_for_are_not_hidden_but_waiting_runs_are() -> None:
    runs = [Run(f"f{n}", "Failed", ended=n) for n in range(3)] + [Run(f"s{n}", "Scheduled", -60.0) for n in range(3)]
    assert cut(in_order(runs, Run.facts, NOW), {}).hidden == {Group.NEXT: 2}

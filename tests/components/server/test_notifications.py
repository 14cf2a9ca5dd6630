"""What the server notifies: ends of runs, missed times, late and stuck runs, agents that are away."""

from __future__ import annotations

from collections.abc import Iterator
from socket import gethostname
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from flowherd.host_figures import DiskFigures, HostFigures, HostHistory
from flowherd.notify.channels import CommandChannel
from flowherd.notify.delivery import Target
from flowherd.notify.message import read_stored
from flowherd.notify.pace import Rate
from flowherd.notify.rules import read_rule
from flowherd_server.notify.notifier import Notifier, NotifyOptions
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.stuck_runs import StuckRuns
from flowherd_server.runs.usual_durations import UsualDurations
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.notification_tables import NOTIFICATION, NOTIFICATION_EVENT
from flowherd_server.store.tables import AGENT
from tests.support.ruled_flows import MINUTE_US, World
from tests.support.waiting import wait_until

ENDS = {"on": ["failed", "recovered", "lost"]}


class Known:
    """What a server knows beside its database: real boards, and agents that a test connects."""

    def __init__(self) -> None:
        self.live = LiveBoard()
        self.stuck_runs = StuckRuns(self.live, UsualDurations())
        self.disks: list[DiskFigures] = []
        self.host = HostHistory(lambda: HostFigures(at=0.0, disks=tuple(self.disks)))
        self.board = self
        self.connected: set[str] = set()

    def is_connected(self, agent_id: str) -> bool:
        return agent_id in self.connected


class Office:
    """A server's notifications. Its channel only holds: what it delivers would be of no use here."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.world = World(database)
        self.known = Known()
        self._notifier: Notifier | None = None

    def open(self, *rules: dict[str, Any]) -> None:
        target = Target("ops", CommandChannel(command=["/bin/false"]), Rate(20, 60.0))
        options = NotifyOptions(
            targets=[target],
            rules=[read_rule(rule) for rule in rules or (ENDS,)],
            after_s=0.0,
            look_s=0.02,
            settle_s=0.0,
        )
        self._notifier = Notifier(self.database, options, self.known)
        self._notifier.start("http://127.0.0.1:4200")
        wait_until(lambda: self.stored("SELECT 1 FROM notification_channel"), what="the rules are stored")

    def close(self) -> None:
        if self._notifier is not None:
            self._notifier.stop()
            self._notifier = None

    def stored(self, query: str) -> list[Any]:
        with self.database.reading() as connection:
            return list(connection.exec_driver_sql(query))

    def sent(self) -> list[dict[str, Any]]:
        """Return what is in the outbox, once every event has been looked at."""
        if self._notifier is not None:
            self._notifier.announce(self.world.effects)
            wait_until(lambda: not self.stored(f"SELECT 1 FROM {NOTIFICATION_EVENT.name}"), what="no event is left")
        with self.database.reading() as connection:
            rows = connection.execute(select(NOTIFICATION.c.content).order_by(NOTIFICATION.c.seq)).scalars().all()
        return [read_stored(row).as_json() for row in rows]

    def titles(self) -> list[str]:
        return [each["title"] for each in self.sent()]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        return wait_until(
            lambda: found if len(found := self.sent()) >= count else None, what=lambda: f"{count}: {self.titles()}"
        )

    def agent(self, name: str, silent_s: float, **report: Any) -> str:
        """Add an agent that was last heard of this time ago; return its id."""
        row = {"id": str(uuid4()), "name": name, "type": "LocalAgent", "labels": ["a"]}
        seen = now_us() - round(silent_s * SECOND_US)
        tenant = self.stored("SELECT id FROM tenant")[0][0]
        with self.database.writing() as connection:
            connection.execute(insert(AGENT), {**row, "tenant_id": tenant, "last_queried": seen, "created": seen})
        self.report(str(row["id"]), **report)
        return str(row["id"])

    def report(self, agent_id: str, **report: Any) -> None:
        with self.database.writing() as connection:
            connection.execute(update(AGENT).where(AGENT.c.id == agent_id), {"report": {"host": "h", **report}})

    def end(self, flow_id: str, state: str, **marks: Any) -> str:
        run_id = self.world.run(flow_id, f"run {uuid4().hex[:4]}")
        self.world.start(run_id)
        self.world.report(run_id, state, **marks)
        return run_id


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    office = Office(database)
    yield office
    office.close()


def test_a_failure_is_told_once_and_so_is_the_recovery(office: Office) -> None:
    office.open()
    flow_id = office.world.flow(name="nightly")
    for state in ("Success", "Failed", "Failed", "Success", "Success", "Failed"):
        office.end(flow_id, state, reason="exited", grade="proven", message=f"{state}.")
        office.sent()
    assert office.titles() == [
        "nightly failed: Failed.",
        "nightly succeeds again, after 2 failures",
        "nightly failed: Failed.",
    ]


def test_it_says_cause_grade_and_last_lines_and_where_to_look(office: Office) -> None:
    office.open()
    flow_id = office.world.flow(name="nightly")
    run_id = office.world.run(flow_id, "run")
    office.world.start(run_id)
    lines = [{"flow_run_id": run_id, "message": f"\x1b[31mline {n}\x1b[0m\x07", "level": "INFO"} for n in range(20)]
    office.world.do("write_run_logs", logs=lines)
    account = {"evidence": "oom_kill of its cgroup rose by 1"}
    office.world.report(
        run_id, "Failed", reason="oom_killer", grade="proven", message="Out of memory.", account=account
    )
    (told,) = office.sent()
    assert told["sentence"] == "Out of memory."
    assert (told["kind"], told["reason"], told["grade"]) == ("failed", "oom_killer", "proven")
    assert told["evidence"] == "oom_kill of its cgroup rose by 1"
    assert told["last_lines"] == [f"line {n}\\x07" for n in range(8, 20)]
    assert told["link"] == f"http://127.0.0.1:4200/runs/{run_id}"
    assert (told["flow"], told["run_id"], told["state"]) == ("nightly", run_id, "Failed")


def test_another_cause_is_news_and_so_is_every_failure_if_that_is_wanted(office: Office) -> None:
    office.open({"on": ["failed"], "flows": ["a"]}, {"on": ["failed"], "flows": ["b"], "every_failure": True})
    flows = [office.world.flow(name=name) for name in "ab"]
    for reason in ("exited", "exited", "signal"):
        for flow_id in flows:
            office.end(flow_id, "Failed", reason=reason, message="It failed.")
    assert office.titles() == [
        "a failed: It failed.",
        "b failed: It failed.",
        "b failed 2 times in a row: It failed.",
        "a failed again, for another reason: It failed.",
        "b failed again, for another reason: It failed.",
    ]


def test_a_run_that_was_lost_is_told_to_who_wants_failures_too(office: Office) -> None:
    office.open({"on": ["lost"], "flows": ["a"]}, {"on": ["failed"], "flows": ["b"]})
    for name in "ab":
        office.end(office.world.flow(name=name), "Failed", reason="reboot", grade="probable", message="Gone.")
    assert [(each["kind"], each["title"]) for each in office.sent()] == [
        ("lost", "a was lost: Gone."),
        ("lost", "b was lost: Gone."),
    ]


def test_a_cancelled_run_is_neither_failure_nor_recovery(office: Office) -> None:
    office.open()
    flow_id = office.world.flow(name="nightly")
    for state in ("Cancelled", "Failed", "Cancelled"):
        office.end(flow_id, state, reason="exited")
    assert len(office.sent()) == 1


def test_ends_that_came_while_nobody_looked_are_told_in_their_order(office: Office) -> None:
    office.open()
    office.close()
    flow_id = office.world.flow(name="nightly")
    office.end(flow_id, "Failed")
    office.end(flow_id, "Success")
    assert office.sent() == []
    office.open()
    assert office.titles() == ["nightly failed: now Failed", "nightly succeeds again, after 1 failure"]


def test_without_a_rule_nothing_is_written(office: Office) -> None:
    office.end(office.world.flow(name="nightly"), "Failed")
    assert not office.stored("SELECT 1 FROM notification_event")


def test_good_ends_of_flows_that_did_not_fail_are_not_written(office: Office) -> None:
    office.open()
    office.close()
    office.end(office.world.flow(name="nightly"), "Success")
    assert not office.stored("SELECT 1 FROM notification_event")


def test_a_run_that_was_skipped_as_missed_is_told(office: Office) -> None:
    office.open({"on": ["missed"]})
    office.world.flow(name="hourly", every_us=MINUTE_US, catch_up="last")
    office.world.look()
    office.world.pass_time(seconds=150)
    told = office.wait_for(1)
    assert told[0]["title"] == "hourly missed a scheduled run"
    assert "catch-up: last" in told[0]["sentence"]


def test_times_in_which_no_server_ran_are_told_if_they_are_not_made_up_for(office: Office) -> None:
    office.open({"on": ["missed"]})
    office.world.flow(name="hourly", every_us=60 * MINUTE_US, catch_up="last")
    office.world.look()  # creates four runs
    office.world.pass_time(seconds=8 * 3600)
    told = office.wait_for(1)
    assert sum(each["count"] for each in told) == 3 + 4  # and those that were made but not started in time
    assert "No server was running at the time." in " ".join(each["sentence"] for each in told)


def test_a_late_flow_is_told_once_and_again_when_it_has_started(office: Office) -> None:
    flow_id = office.world.flow(name="nightly")
    runs = [office.world.run(flow_id, name) for name in ("one", "two")]
    office.open({"on": ["late", "recovered"]})
    (late,) = office.wait_for(1)
    assert late["title"].startswith("nightly is late: due ")
    assert late["title"].endswith("2 of its runs are late")
    assert late["run_name"] == "one"
    assert late["sentence"] == "No agent is running; start one with `flowherd start`."
    office.close()
    office.open({"on": ["late", "recovered"]})
    for run_id in runs:
        office.world.start(run_id)
    office.wait_for(2)
    assert office.titles()[1:] == ["nightly is no longer late"]


def test_a_stuck_run_and_one_near_its_limit_are_told_until_they_are_not(office: Office) -> None:
    run_id = office.world.run(office.world.flow(name="nightly"), "run")
    office.world.start(run_id)
    now = now_us() / SECOND_US

    def report(**figures: Any) -> None:
        run = {"id": run_id, "at": now, "memory_limit_bytes": 1 << 30, **figures}
        office.known.live.note(str(uuid4()), {"instance": "one", "run_figures": [run]})

    report(last_line_at=now - 700, idle_since=now - 700, memory_bytes=1 << 28)
    office.open({"on": ["stuck", "near-limit", "recovered"]})
    office.wait_for(1)
    report(last_line_at=now - 700, idle_since=now - 5, memory_bytes=1000 << 20)
    office.wait_for(3)
    report(last_line_at=now, memory_bytes=1 << 29)
    office.wait_for(4)
    assert sorted(office.titles()) == [
        "nightly is no longer stuck",
        "nightly is stuck: no output and less than 1% CPU for 11 m",
        "nightly uses 50 % of its memory limit of 1.0 GiB again",
        "nightly uses 98 % of its memory limit of 1.0 GiB",
    ]


def test_an_agent_that_is_away_is_told_and_so_is_its_return(office: Office) -> None:
    away = office.agent("east", 120, runs=2)
    office.agent("stopped", 120, hold="stopping")
    office.agent("long ago", 200_000)
    office.known.connected.add(office.agent("waits", 120))
    office.open({"on": ["agent-away", "recovered"]})
    (told,) = office.wait_for(1)
    assert told["title"] == "Agent east on h is away: not heard of for 2 m, with 2 runs"
    office.known.connected.add(away)
    office.wait_for(2)
    assert office.titles()[1:] == ["Agent east on h is back"]


def test_full_disks_and_unsent_output_are_told_until_there_is_room(office: Office) -> None:
    gib = 1 << 30
    office.known.disks = [DiskFigures(name="data", path="/data", total_bytes=100 * gib, free_bytes=5 * gib)]
    office.known.host.look()
    agent = office.agent("east", 0, unsent_bytes=9 * gib, unsent_most_bytes=10 * gib)
    office.open({"on": ["disk", "spool", "recovered"]})
    office.wait_for(2)
    office.known.disks = [DiskFigures(name="data", path="/data", total_bytes=100 * gib, free_bytes=50 * gib)]
    office.known.host.look()
    office.wait_for(3)
    office.report(agent, unsent_bytes=0, unsent_most_bytes=10 * gib)
    office.wait_for(4)
    titles = sorted(title.replace(f" on {gethostname()}", "") for title in office.titles())
    assert titles == [
        "Agent east on h has 9.0 GiB of output that the server does not have yet, of 10.0 GiB at most",
        "Agent east on h has sent its output: 0 B are left",
        "The disk of /data has room again: 50.0 GiB of 100 GiB are free",
        "The disk of /data is nearly full: 5.0 GiB of 100 GiB are free",
    ]


def test_conditions_keep_their_place_when_the_flow_has_a_new_version(office: Office) -> None:
    office.open()
    office.end(office.world.flow(name="nightly"), "Failed")
    office.sent()
    office.end(office.world.flow(name="nightly"), "Success")
    assert office.titles()[1:] == ["nightly succeeds again, after 1 failure"]

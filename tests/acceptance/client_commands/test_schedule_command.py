"""`flowherd schedule`: listing, pausing, resuming, next times, a run of the schedule now."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from tests.acceptance.client_commands.helpers import FakeAgent
from tests.support.commands import CommandLine
from tests.support.dialect import Client
from tests.support.http_server import Answer, Request, http_server
from tests.support.server import ServerProcess

JSON_HEADERS = {"Content-Type": "application/json"}


def register(command: CommandLine, name: str, *options: str) -> None:
    command("register", name, *options, "--command", "--", "true")


def schedules(command: CommandLine) -> dict[str, dict[str, Any]]:
    listed = json.loads(command("schedule", "ls", "--json").stdout)
    return {each["flow"]: each for each in listed}


def scheduled(command: CommandLine, flow: str) -> list[dict[str, Any]]:
    return [run for run in command.json("ps", "--limit", "1000") if run["flow"] == flow]


def test_schedules_are_listed_the_next_to_fire_first(own_command: CommandLine) -> None:
    register(own_command, "plain")
    register(own_command, "yearly", "--cron", "@yearly", "--timezone", "Asia/Tokyo")
    register(own_command, "often", "--interval", "10m")
    register(own_command, "stopped", "--cron", "0 6 * * 1-5", "--timezone", "UTC")
    own_command("schedule", "pause", "stopped")
    first, *rows = own_command("schedule", "ls").stdout.splitlines()
    assert first.split() == ["NEXT", "FLOW", "WHEN", "PAUSED", "LAST", "ZONE", "CRON", "PROJECT"]
    assert [next(name for name in ("often", "yearly", "stopped") if name in row) for row in rows] == [
        "often",
        "yearly",
        "stopped",
    ]
    assert "every 10 minutes" in rows[0]
    assert "on 1 January at 00:00" in rows[1] and "Asia/Tokyo" in rows[1] and "0 0 1 1 *" in rows[1]
    assert rows[2].startswith("paused ") and "weekdays at 06:00" in rows[2]
    assert " from the command line" in rows[2] and " since " in rows[2]
    listed = schedules(own_command)
    assert listed.keys() == {"often", "yearly", "stopped"}
    assert listed["yearly"]["next"][4:] == "-12-31T15:00:00+00:00"
    assert (listed["stopped"]["paused"], listed["stopped"]["next"]) == (True, None)
    assert listed["stopped"]["paused_since"] and listed["stopped"]["paused_by"].startswith("command line")
    assert (listed["often"]["paused_since"], listed["often"]["paused_by"]) == (None, None)


def test_a_paused_schedule_has_no_runs_until_it_is_resumed(command: CommandLine) -> None:
    for name in ("one", "two"):
        register(command, name, "--cron", "30 2 * * *", "--timezone", "Europe/Berlin")
    paused = command("schedule", "pause", "one", "two").stdout
    assert paused == "paused one\npaused two\n"
    assert scheduled(command, "one") == scheduled(command, "two") == []
    assert command("schedule", "pause", "one").stdout == "one was paused already\n"
    assert command("schedule", "resume", "one").stdout.startswith("resumed one; next run at ")
    assert len(scheduled(command, "one")) == 10
    assert scheduled(command, "two") == []


def test_nothing_changes_if_one_of_the_names_is_wrong(command: CommandLine) -> None:
    register(command, "right", "--interval", "1h")
    register(command, "bare")
    assert "did you mean right?" in command("schedule", "pause", "right", "rihgt", code=4).stderr
    assert "bare' has no schedule" in command("schedule", "pause", "right", "bare", code=4).stderr
    assert not schedules(command)["right"]["paused"]
    command("schedule", "pause", code=2)
    command("schedule", "pause", "right", "--all", code=2)


def test_all_schedules_of_a_project_are_paused_at_once(command: CommandLine) -> None:
    register(command, "inside", "--interval", "1h", "--project", "p")
    register(command, "outside", "--interval", "1h")
    answer = json.loads(command("schedule", "pause", "--all", "--project", "p", "--json").stdout)
    assert [(each["flow"], each["paused"], each["changed"]) for each in answer] == [("inside", True, True)]
    assert not schedules(command)["outside"]["paused"]


def test_the_next_times_are_those_of_the_runs_also_while_paused(command: CommandLine) -> None:
    register(command, "shown", "--cron", "15 */6 * * *", "--timezone", "America/New_York")
    starts = sorted(run["scheduled_start_time"] for run in scheduled(command, "shown"))
    times = json.loads(command("schedule", "next", "shown", "-n", "10", "--json").stdout)
    assert [time["utc"] for time in times] == starts
    command("schedule", "pause", "shown")
    done = command("schedule", "next", "shown")
    assert "paused" in done.stderr and "every 6 hours at minute 15, America/New_York" in done.stderr
    assert len(done.stdout.splitlines()) == 6


def test_an_expression_can_be_tried_without_a_server(command: CommandLine) -> None:
    nowhere = CommandLine(command.home / "nowhere")
    given = ["--cron", "30 2 * * *", "--timezone", "Europe/Berlin"]
    times = json.loads(nowhere("schedule", "next", *given, "-n", "400", "--json").stdout)
    odd = [time["time"] for time in times if "T02:30:00" not in time["time"]]
    assert 1 <= len(odd) <= 2 and all("T03:00:00+02:00" in time for time in odd)
    note = nowhere("schedule", "next", *given, "-n", "400").stdout
    assert "clock put forward 1 h" in note and "clock put back 1 h" in note
    assert "never fires" in nowhere("schedule", "next", "--cron", "0 0 30 2 *", code=2).stderr


def test_a_run_now_has_the_parameters_and_labels_of_the_schedule(command: CommandLine, server: ServerProcess) -> None:
    register(command, "digest", "--interval", "1h", "-p", "n=0")
    run_id = command("schedule", "run-now", "digest").stdout.strip()
    run = command.runs()[run_id]
    assert (run["flow"], run["parameters"]) == ("digest", {"n": 0})
    clocks = [{"type": "IntervalClock", "interval": 3_600_000_000, "parameter_defaults": {"n": n}} for n in (1, 2)]
    Client(server).flow(name="twofold", schedule={"clocks": [{**clocks[0], "labels": ["x"]}, clocks[1]]})
    assert "--clock: 1 (every hour), 2 (every hour)" in command("schedule", "run-now", "twofold", code=2).stderr
    run_id = json.loads(command("schedule", "run-now", "twofold", "--clock", "1", "--json").stdout)["id"]
    run = command.runs()[run_id]
    assert (run["parameters"], run["labels"]) == ({"n": 1}, ["x"])


def test_the_last_run_of_an_earlier_version_is_shown(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "again", "--interval", "1h")
    run_id = command.run("again")
    agent.state(run_id, "Running")
    agent.state(run_id, "Failed")
    register(command, "again", "--interval", "2h")
    assert schedules(command)["again"]["last_state"] == "Failed"


@pytest.mark.parametrize("arguments", [["schedule", "next"], ["schedule", "next", "x", "--timezone", "UTC"]])
def test_a_question_without_a_subject_is_refused(command: CommandLine, arguments: list[str]) -> None:
    assert "--cron" in command(*arguments, code=2).stderr


def test_a_server_without_flowherds_clock_gets_one_of_prefects_in_the_same_zone(
    command: CommandLine, server: ServerProcess
) -> None:
    def without_marks(request: Request) -> Answer:
        passed_on = requests.post(f"{server.url}{request.path}", data=request.body, headers=JSON_HEADERS, timeout=20)
        return Answer(status=passed_on.status_code, body=passed_on.content)

    with http_server(without_marks) as foreign:
        given = ["--cron", "30 2 1 * *", "--timezone", "Asia/Tokyo", "--api", foreign]
        done = command("register", "foreign", *given, "--command", "--", "true")
        assert "follows Prefect's rules" in done.stderr
        (clock,) = schedules(command)["foreign"]["clocks"]
        assert (clock["type"], clock["start_date"]["tz"]) == ("CronClock", "Asia/Tokyo")
        next_ones = command("schedule", "next", "foreign", "-n", "100", "--api", foreign).stdout.splitlines()
        assert len(next_ones) == 1 + 10
        assert all("T02:30:00+09:00" in line for line in next_ones[1:])

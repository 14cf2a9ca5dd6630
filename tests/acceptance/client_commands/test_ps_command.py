"""`flowherd ps` against a real server."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from tests.acceptance.client_commands.helpers import HOST, FakeAgent, register, shown
from tests.support.commands import CommandLine
from tests.support.dialect import Client
from tests.support.server import ServerProcess
from tests.support.terminal import on_terminal, screen

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def test_ps_shows_unfinished_runs_and_all_runs_on_request(own_command: CommandLine, own_agent: FakeAgent) -> None:
    register(own_command, "hello")
    going, ended = own_command.run("hello", "--run-name", "going"), own_command.run("hello")
    own_agent.state(going, "Running", "at work", pid=4711)
    own_agent.state(ended, "Failed", "broke", reason="exception")
    (run,) = own_command.json("ps")
    assert {"id", "name", "flow", "state", "message", "labels", "agent", "pid", "start_time", "end_time"} <= set(run)
    assert (run["id"], run["name"], run["flow"], run["state"], run["pid"]) == (going, "going", "hello", "Running", 4711)
    assert (run["message"], run["labels"], run["end_time"]) == ("at work", [HOST], None)
    assert datetime.fromisoformat(run["start_time"]).tzinfo is not None
    assert {run["id"] for run in own_command.json("ps", "--all")} == {going, ended}
    assert len(own_command.json("ps", "--all", "--limit", "1")) == 1
    assert shown(own_command, ended)["reason"] == "exception"


def test_in_a_pipe_ps_prints_plain_columns(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "piped")
    run_id = command.run("piped")
    agent.state(run_id, "Running", "two\nlines \x1b[31mred")
    head, row = command("ps").stdout.splitlines()
    assert head.split()[:4] == ["ID", "NAME", "FLOW", "STATE"]
    assert row.startswith(run_id)
    assert "\x1b" not in row


def test_on_a_terminal_a_running_run_says_what_it_wrote_last(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "train")
    run_id = command.run("train")
    agent.state(run_id, "Running", "at work")
    agent.log(run_id, ("stdout", "epoch 30 of 40"), ("stdout", "epoch 31 of 40"))
    title, row = screen(command, "ps", "--flow", "train")
    assert title.split() == ["ID", "STATE", "FLOW", "NAME", "TIME", "SAYS"]
    assert row.startswith(run_id[:8]) and row.endswith("epoch 31 of 40")
    agent.log(run_id, ("stdout", "epoch 32 [====> ]"), so_far=True)
    assert screen(command, "ps", "--flow", "train")[1].endswith("epoch 32 [====> ]")


def test_a_running_run_shows_what_it_uses_and_whether_it_is_stuck(
    own_server: ServerProcess, own_command: CommandLine, own_agent: FakeAgent
) -> None:
    register(own_command, "train")
    register(own_command, "service", "--never-stuck")
    busy, silent = own_command.run("train"), own_command.run("train", "--run-name", "silent")
    waits = own_command.run("service")
    for run_id in (busy, silent, waits):
        own_agent.state(run_id, "Running", "at work")
    now, reporter = time.time(), Client(own_server).agent()
    figures = {"at": now, "memory_bytes": 3 * 2**29, "memory_limit_bytes": 2**32, "cpu_share": 1.02, "processes": 3}
    quiet = {"at": now, "memory_bytes": 2**26, "cpu_share": 0.0, "idle_since": now - 900, "last_line_at": now - 900}
    each = [{"id": busy, **figures}, {"id": silent, **quiet}, {"id": waits, **quiet}]
    reporter.do("report_agent", live_report={"instance": "x", "run_figures": each})
    rows = {row.split()[0]: row for row in screen(own_command, "ps", width=120)}
    assert rows["ID"].split() == ["ID", "STATE", "FLOW", "NAME", "TIME", "CPU", "MEMORY", "SAYS"]
    assert "102%  1.5G/4G" in rows[busy[:8]] and " Running " in rows[busy[:8]]
    assert " Stuck " in rows[silent[:8]] and "No output and less than 1% CPU for 15 m" in rows[silent[:8]]
    (stuck,) = own_command.json("ps", "--stuck")
    assert (stuck["id"], stuck["state"], stuck["memory_bytes"]) == (silent, "Running", 2**26)
    assert stuck["stuck"].startswith("no output") and stuck["late"] is None
    explained = own_command.json("explain", silent)["verdict"]
    assert explained["sentence"].startswith("No output and less than 1% CPU for 15 m"), explained
    assert explained["tone"] == "warn"
    by_id = {run["id"]: run for run in own_command.json("ps")}
    assert (by_id[busy]["cpu_share"], by_id[busy]["processes"], by_id[busy]["stuck"]) == (1.02, 3, None)


def test_late_runs_are_listed_with_the_reason(own_command: CommandLine) -> None:
    register(own_command, "digest", "--label", "mail")
    late = own_command.run("digest", "--at", (datetime.now(timezone.utc) - timedelta(minutes=5)).isoformat(), "--late")
    own_command.run("digest", "--at", (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat())
    (run,) = own_command.json("ps", "--late")
    assert (run["id"], run["state"], run["group"]) == (late, "Scheduled", "due")
    assert "mail" in run["late"] and run["stuck"] is None
    assert own_command("ps", "--late", "-q").stdout.split() == [late]
    assert "leave out" in own_command("ps", "--late", "--all", code=2).stderr


def test_watch_keeps_the_list_while_the_server_is_away_and_goes_on_when_it_is_back(
    own_server: ServerProcess, own_command: CommandLine, own_agent: FakeAgent
) -> None:
    register(own_command, "steady")
    own_agent.state(own_command.run("steady"), "Running")
    with on_terminal(own_command, "ps", "--watch", "--interval", "200ms") as shown:
        shown.read_until(lambda raw: "steady" in raw)
        own_server.stop()
        shown.read_until(lambda raw: "no answer since" in raw and raw.endswith("\x1b[J"))
        assert "steady" in shown.raw.rpartition("no answer since")[2], "the last list stays"
        own_server.start()
        seen = len(shown.raw)
        shown.read_until(lambda raw: "Ctrl-C ends it" in raw[seen:])
        assert shown.interrupt() == 130

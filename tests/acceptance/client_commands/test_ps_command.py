"""`flowherd ps` against a real server."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.acceptance.client_commands.helpers import HOST, FakeAgent, register, shown
from tests.support.commands import CommandLine
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

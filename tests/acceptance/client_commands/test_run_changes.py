"""`flowherd wait`, `cancel`, `retry`, `delete` and `unregister` of one and of several runs, against a real server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import uuid
from datetime import datetime, timedelta, timezone

import pytest

from tests.acceptance.client_commands.helpers import FakeAgent, next_line, register, running, shown
from tests.support.commands import FLOWHERD, CommandLine
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def ended(command: CommandLine, agent: FakeAgent, flow: str, state: str = "Failed", *options: str) -> str:
    run_id = command.run(flow, *options)
    agent.state(run_id, "Running")
    agent.state(run_id, state)
    return run_id


def with_input(command: CommandLine, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = command.environment()
    return subprocess.run(
        [*FLOWHERD, *arguments], env=environment, input=text, capture_output=True, text=True, timeout=60, check=False
    )


def test_several_runs_are_cancelled_by_ids_and_from_standard_input(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "several")
    first, second, third = (command.run("several") for _ in range(3))
    agent.state(second, "Running")
    done = command("cancel", first[:8], second, "--json")
    assert json.loads(done.stdout) == [
        {"id": first, "state": "Cancelled", "was_finished": False},
        {"id": second, "state": "Cancelling", "was_finished": False},
    ]
    rows = f"ID NAME\n{first} a\n\n{third} b\n"
    piped = with_input(command, rows, "cancel", "-")
    assert piped.returncode == 1 and "finished already: Cancelled" in piped.stderr
    assert f"({third}): Cancelled" in piped.stdout
    fourth = command.run("several")
    assert "no run" in command("cancel", fourth, str(uuid.uuid4()), code=4).stderr
    assert shown(command, fourth)["state"] == "Scheduled", "nothing is done if one of the runs does not exist"
    assert "which runs?" in command("cancel", code=2).stderr


def test_filters_choose_runs_and_are_asked_about(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "chosen")
    failed, good, cancelled = (ended(command, agent, "chosen", state) for state in ("Failed", "Success", "Cancelled"))
    waiting = command.run("chosen")
    assert "--yes" in command("cancel", "--flow", "chosen", code=2).stderr
    assert at_terminal(command, "y\n", "cancel", "--flow", "chosen", shows=waiting[:8]) == 0
    assert shown(command, waiting)["state"] == "Cancelled"
    repeated = [json.loads(line) for line in command("retry", "--flow", "cho*", "--yes", "--json").stdout.splitlines()]
    assert [one["repeats"] for one in repeated[0]] == [failed, cancelled, waiting]
    deleted = json.loads(command("delete", "run", "--flow", "chosen", "--state", "bad", "--yes", "--json").stdout)
    assert deleted == [{"id": failed, "state": "Failed", "deleted": True}]
    assert good in command.runs()
    assert "no run matches" in command("retry", "--flow", "no-such-flow").stderr
    assert "not both" in command("cancel", waiting, "--flow", "chosen", code=2).stderr


def test_a_run_is_repeated_with_its_own_version_or_the_newest(command: CommandLine, agent: FakeAgent) -> None:
    first = register(command, "again", "-l", "one")
    failed = ended(command, agent, "again", "Failed", "-p", "n=0")
    newest = register(command, "again", "-l", "two")
    answer = command.json("retry", failed)
    assert answer["repeats"] == failed
    repeated = shown(command, answer["id"])
    assert repeated["parameters"] == {"n": 0} and repeated["labels"] == sorted(first["labels"])
    done = command("retry", failed, "--latest")
    assert shown(command, done.stdout.strip())["labels"] == sorted(newest["labels"])
    assert f"repeats {shown(command, failed)['name']} ({failed}) of again" in done.stderr
    waiting = command.run("again")
    refused = command("retry", failed, waiting, code=1)
    assert "only a run that has ended" in refused.stderr and len(refused.stdout.split()) == 1
    assert f"repeats {failed}" in command.json("explain", answer["id"])["timeline"][0]["detail"]


def test_wait_ends_with_the_last_run_and_says_how_they_ended(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "awaited")
    good = ended(command, agent, "awaited", "Success")
    assert command("wait", good).stdout.endswith(f"({good}): Success\n")
    bad, late = ended(command, agent, "awaited", "Failed"), command.run("awaited")
    timed_out = command("wait", late, bad, "--timeout", "0.1", code=6)
    assert f"({bad}): Failed" in timed_out.stdout and "1 of 2 runs have not ended" in timed_out.stderr
    with running(command, "wait", late, good, "--json") as process:
        assert json.loads(next_line(process))["id"] == good
        command("cancel", late)
        assert json.loads(next_line(process))["state"] == "Cancelled"
        assert process.wait(20) == 5
    assert command("wait", late, bad, good, code=1).stdout.count("\n") == 3
    assert "no run" in command("wait", str(uuid.uuid4()), code=4).stderr


def test_wait_goes_on_over_a_restart_of_the_server(
    own_command: CommandLine, own_server: ServerProcess, own_agent: FakeAgent
) -> None:
    register(own_command, "patient")
    first, second = own_command.run("patient"), own_command.run("patient")
    with running(own_command, "wait", first, second) as process:
        own_agent.state(first, "Running")
        own_agent.state(first, "Success")
        assert first in next_line(process)
        own_server.kill()
        own_server.start()
        own_agent.state(second, "Running")
        own_agent.state(second, "Success")
        assert second in next_line(process)
        assert process.wait(20) == 0


def test_deleting_asks_and_spares_what_an_agent_has(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "deleted")
    old, going = ended(command, agent, "deleted", "Failed", "--run-name", "long-" * 40), command.run("deleted")
    agent.state(going, "Running")
    assert "--yes" in command("delete", "run", old, code=2).stderr
    assert at_terminal(command, "n\n", "delete", "run", old, shows=old[:8]) == 1
    assert at_terminal(command, "\x04", "delete", "run", old, shows=old[:8]) == 1  # Ctrl-D
    assert old in command.runs()
    assert at_terminal(command, "y\n", "delete", "run", old, shows=old[:8]) == 0
    done = command("delete", "run", going, "--yes", code=1)
    assert "is Running and was not deleted" in done.stderr
    assert old not in command.runs() and going in command.runs()


def at_terminal(command: CommandLine, answer: str, *arguments: str, shows: str) -> int:
    """Run a command at a terminal at which `answer` is typed; it must ask and show a text. Return its exit code."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [*FLOWHERD, *arguments],
            env={**command.environment(), "COLUMNS": "80"},
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    if not answer.endswith("\n"):  # the terminal itself shows the end of a line that is typed
        assert "[y/N] \nerror: " in done.stderr
    *listed, question = done.stderr.split("\n", done.stderr[: done.stderr.index("[y/N]")].count("\n"))
    assert any(shows in line for line in listed) and all(len(line) <= 80 for line in listed), question
    return done.returncode


def test_an_unregistered_flow_keeps_its_history_until_it_is_deleted(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "retired")
    old, going, waiting = ended(command, agent, "retired"), command.run("retired"), command.run("retired")
    agent.state(going, "Running")
    register(command, "retired", "--cron", "0 0 1 1 *")
    answer = command.json("unregister", "retired")
    assert (answer["version"], answer["cancelled"], answer["running"]) == (2, 1, [going])
    states = {run_id: run["state"] for run_id, run in command.runs().items() if run["flow"] == "retired"}
    assert states == {old: "Failed", going: "Running", waiting: "Cancelled"}
    assert "no flow" in command("unregister", "retired", code=4).stderr
    assert "are being run" in command("delete", "flow", "retired", "--yes", code=2).stderr
    agent.state(going, "Success")
    assert "--yes" in command("delete", "flow", "retired", code=2).stderr
    assert "2 versions, 3 runs" in command("delete", "flow", "retired", "--yes").stdout
    assert not [run for run in command.runs().values() if run["flow"] == "retired"]
    assert register(command, "retired")["version"] == 1
    command.run("retired")
    assert "1 version, 1 run" in command("delete", "flow", "retired", "--yes").stdout
    assert "no flow" in command("delete", "flow", "retired", "--yes", code=4).stderr


def test_a_start_that_is_over_is_refused_unless_it_may_be_late(command: CommandLine) -> None:
    register(command, "too-late")
    earlier = (datetime.now(timezone.utc) - timedelta(hours=2)).isoformat(timespec="seconds")
    assert "2h00m ago" in command("run", "too-late", "--at", earlier, code=2).stderr
    late = shown(command, command.run("too-late", "--at", earlier, "--late"))
    assert datetime.fromisoformat(late["scheduled_start_time"]) == datetime.fromisoformat(earlier)
    assert "--late needs --at" in command("run", "too-late", "--late", code=2).stderr

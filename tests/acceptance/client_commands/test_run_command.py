"""`flowherd run` against a real server: what it creates, what it warns of, and how it waits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from datetime import datetime, timezone
from pathlib import Path

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.user_client import UserClient
from tests.acceptance.client_commands.helpers import HOST, FakeAgent, next_line, register, running, shown
from tests.support.commands import CommandLine
from tests.support.server import ServerProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: Holds the connection by which the server knows that an agent is connected.
WAITING = """
import json, sys, urllib.request
seen = 0
while True:
    with urllib.request.urlopen(f"{sys.argv[1]}&seen={seen}") as answer:
        seen = json.load(answer)["sequence"]
"""


def test_run_warns_at_once_if_no_agent_will_take_the_run(command: CommandLine) -> None:
    register(command, "untaken")
    done = command("run", "untaken")
    uuid.UUID(done.stdout.strip())
    assert "no agent" in done.stderr
    assert HOST in done.stderr
    assert HOST in command.json("run", "untaken")["warning"]


def test_run_names_the_label_that_the_connected_agents_lack(
    own_command: CommandLine, own_server: ServerProcess
) -> None:
    transport = GraphQLTransport(own_server.url)
    register(own_command, "labelled", "-l", "gpu")
    query = "mutation($input: register_agent_input!) { register_agent(input: $input) { id } }"
    given = {"type": "LocalAgent", "name": "here", "labels": [HOST], "tenant_id": None}
    agent_id = transport.execute(query, {"input": given})["register_agent"]["id"]
    waiting = subprocess.Popen([sys.executable, "-c", WAITING, f"{own_server.url}/agents/{agent_id}/wake?timeout=60"])
    try:
        user = UserClient(transport)
        wait_until(lambda: user.agents.all()[0].connected, what="the agent's connection")
        warning = own_command.json("run", "labelled")["warning"]
        assert "label gpu" in warning
        assert f"here [{HOST}]" in warning
        assert "warning" not in own_command.json("run", "labelled", "-l", HOST)
        assert shown(own_command, own_command.run("labelled", "-l", "other"))["labels"] == ["other"]
    finally:
        waiting.kill()
        waiting.wait()
        transport.close()


def test_parameters_are_merged_with_the_flows_defaults(command: CommandLine) -> None:
    register(command, "merged", "-p", "a=1", "-p", "b=0", "-p", 'c={"x": []}')
    run_id = command.run("merged", "-p", "a=2", "-p", "d=text")
    assert shown(command, run_id)["parameters"] == {"a": 2, "b": 0, "c": {"x": []}, "d": "text"}


def test_a_parameter_that_the_flow_does_not_take_is_refused_with_the_one_that_was_meant(
    command: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "pizza.py").write_text("def bake(topping='cheese', size=1): pass")
    arguments = ["register", "pizza", "--python", f"{tmp_path}/pizza.py:bake", "-p", "sice=2"]
    assert "no parameter 'sice'; did you mean 'size'?" in command(*arguments, code=2).stderr
    command(*arguments, "--no-check")
    done = command("run", "pizza", "-p", "toping=ham", "-p", "x=1", code=2)
    assert "no parameter 'toping'; did you mean 'topping'?" in done.stderr
    assert "no parameter 'x'; it has size, topping" in done.stderr
    assert not [run for run in command.json("ps", "--all") if run["flow"] == "pizza"]
    command(*arguments[:-2])
    command("run", "pizza", "-p", "topping=ham")


def test_a_run_can_start_later(command: CommandLine) -> None:
    register(command, "later")
    at = shown(command, command.run("later", "--at", "2099-01-31T08:00:00Z"))
    assert at["scheduled_start_time"] == "2099-01-31T08:00:00+00:00"
    before = datetime.now(timezone.utc)
    soon = datetime.fromisoformat(shown(command, command.run("later", "--in", "1h30m"))["scheduled_start_time"])
    assert 5390 < (soon - before).total_seconds() < 5500
    assert "exclude" in command("run", "later", "--at", "2099-01-31", "--in", "5m", code=2).stderr


def test_an_unknown_flow_is_not_found_and_a_similar_one_is_named(command: CommandLine) -> None:
    register(command, "wordcount")
    assert "did you mean wordcount?" in command("run", "wordcuont", code=4).stderr


def test_a_name_in_two_projects_needs_the_project(command: CommandLine) -> None:
    register(command, "twice", "--project", "one")
    register(command, "twice", "--project", "two")
    assert "one, two" in command("run", "twice", code=2).stderr
    command("run", "twice", "--project", "two")


@pytest.mark.parametrize(("state", "code"), [("Success", 0), ("Failed", 1), ("Cancelled", 5)])
def test_wait_shows_the_log_and_exits_with_the_code_of_the_end(
    command: CommandLine, agent: FakeAgent, state: str, code: int
) -> None:
    register(command, "waited")
    with running(command, "run", "waited", "--wait", "--run-name", "waited") as waiting:
        run_id = next_line(waiting).strip()
        agent.state(run_id, "Running", pid=12)
        agent.log(run_id, ("stdout", "first"), at_us=1_800_000_000_000_500)
        assert "first" in next_line(waiting)
        # A line with an earlier time arrives later: it is shown, although the log has been read beyond its time.
        agent.log(run_id, ("flowherd", "said earlier"))
        assert "said earlier" in next_line(waiting)
        agent.log(run_id, *[("stdout", f"line {number}") for number in range(2500)], at_us=1_800_000_001_000_000)
        agent.state(run_id, state, "the end", reason="exited")
        rest, errors = waiting.communicate(timeout=60)
        assert [line.split()[-2:] for line in rest.splitlines()] == [["line", str(number)] for number in range(2500)]
        assert f"waited: {state}: the end" in errors
        assert waiting.returncode == code


def test_wait_with_a_timeout_leaves_the_run_going(command: CommandLine) -> None:
    register(command, "timed")
    done = command("run", "timed", "--wait", "--timeout", "0.5s", "--json", code=6)
    assert json.loads(done.stdout)["state"] == "Scheduled"
    assert "flowherd logs -f" in done.stderr
    assert "--wait" in command("run", "timed", "--timeout", "5s", code=2).stderr


def test_an_interrupted_wait_leaves_the_run_going_and_shows_how_to_end_it(
    command: CommandLine, agent: FakeAgent
) -> None:
    register(command, "interrupted")
    with running(command, "run", "interrupted", "--wait") as waiting:
        run_id = next_line(waiting).strip()
        agent.log(run_id, ("stdout", "going"))
        assert "going" in next_line(waiting)
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=60)
        assert waiting.returncode == 130
        assert f"flowherd cancel {run_id}" in errors
        assert shown(command, run_id)["state"] == "Scheduled"

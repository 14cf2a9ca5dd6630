"""`flowherd logs`: a part of a log, several logs in one, all runs of a flow, and the end of the server."""

from __future__ import annotations

import contextlib
import json
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest

from flowherd.cli.failures import CommandError
from flowherd.cli.runs.follow import GrowingLog, Line, follow
from flowherd.cli.runs.silence import Silence, stop_check
from flowherd.client.user_client import UserClient
from tests.acceptance.client_commands.helpers import FakeAgent, next_line, register, running
from tests.acceptance.client_commands.test_logs_command import write_journal
from tests.support.commands import CommandLine
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: Time of the first line that an agent of these tests writes.
AT_US = 1_800_000_000_000_000


def messages(text: str) -> list[str]:
    return [json.loads(line)["message"] for line in text.splitlines()]


def iso(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1e6, timezone.utc).isoformat()


def test_each_option_leaves_out_what_it_says(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "parts")
    run_id = command.run("parts")
    lines = [("stdout", "one"), ("stderr", "two"), ("log", "three"), ("log", "four"), ("stdout", "five")]
    levels = ["INFO", "INFO", "WARNING", "Level 45", "INFO"]
    for number, (line, level) in enumerate(zip(lines, levels, strict=True)):
        agent.log(run_id, line, at_us=AT_US + number, level=level)
    for options, wanted in (
        (("--tail", "2"), "four five"),
        (("--head", "2"), "one two"),
        (("--level", "warning"), "three four"),
        (("--errors",), "two four"),
        (("--errors", "--tail", "1"), "four"),
        (("--stream", "log", "--stream", "stderr"), "two three four"),
        (("--stream", "stdout", "--tail", "1"), "five"),
        (("--grep", "^log: (t|f)|^o"), "one three four"),
        (("--grep", "t", "--head", "1"), "two"),
        (("--since", iso(AT_US + 3)), "four five"),
        (("--since", iso(AT_US + 1), "--until", iso(AT_US + 2), "--tail", "5"), "two three"),
    ):
        assert messages(command("logs", run_id, "--json", *options).stdout) == wanted.split(), options


def test_times_are_printed_as_it_is_wished(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "times")
    run_id = command.run("times")
    agent.log(run_id, ("stdout", "x"), at_us=AT_US)
    assert command("logs", run_id, "--timestamps", "utc").stdout == "2027-01-15 08:00:00.000Z  stdout    x\n"
    assert command("logs", run_id, "--timestamps", "none").stdout == "stdout    x\n"


def test_the_end_of_a_long_log_is_read_from_its_end(command: CommandLine, agent: FakeAgent) -> None:
    """More lines than a page, many of them of the same time, and none twice or lost."""
    register(command, "long-log")
    run_id = command.run("long-log")
    for first in range(0, 2400, 800):
        agent.log(run_id, *[("stdout", str(n)) for n in range(first, first + 800)], at_us=AT_US, step_us=0)
    tail = messages(command("logs", run_id, "--json", "--tail", "2300").stdout)
    assert len(tail) == len(set(tail)) == 2300
    assert messages(command("logs", run_id, "--json", "--tail", "1", "--grep", "^7$").stdout) == ["7"]


def test_following_begins_with_the_last_lines_and_leaves_out_the_same(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "tail-f")
    run_id = command.run("tail-f")
    agent.log(run_id, *[("stdout", f"a{n}") for n in range(5)], ("stderr", "b"))
    with running(command, "logs", run_id, "-f", "--tail", "2", "--stream", "stdout", "--timestamps", "none") as tail:
        assert [next_line(tail).split()[-1] for _ in range(2)] == ["a3", "a4"]
        agent.log(run_id, ("stderr", "c"), ("stdout", "a5"), at_us=AT_US + 10)
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        assert tail.communicate(timeout=60)[0].split() == ["stdout", "a5"]


def test_the_lines_of_several_runs_stand_in_the_order_of_their_times(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "pair")
    first, second = command.run("pair", "--run-name", "a"), command.run("pair", "--run-name", "longer")
    agent.log(first, ("stdout", "1"), ("stdout", "2"), at_us=AT_US, step_us=10)
    agent.log(second, ("stdout", "1b"), at_us=AT_US + 5)
    shown = command("logs", first, second, first, "--timestamps", "none").stdout.splitlines()
    assert [line.split() for line in shown] == [["a", "stdout", "1"], ["longer", "stdout", "1b"], ["a", "stdout", "2"]]
    as_json = [json.loads(line) for line in command("logs", first, second, "--json", "--tail", "2").stdout.splitlines()]
    assert [(line["flow_run_id"], line["flow_run_name"]) for line in as_json] == [(second, "longer"), (first, "a")]
    with running(command, "logs", "-f", first, second, "--timestamps", "none") as following:
        assert [next_line(following).split()[-1] for _ in range(3)] == ["1", "1b", "2"]
        for run_id in (first, second):
            agent.state(run_id, "Running")
            agent.state(run_id, "Success")
        assert following.communicate(timeout=60)[0] == ""
        assert following.returncode == 0


def test_journals_of_several_runs_are_read_without_a_server(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home")
    ids = ["a" * 8, "b" * 8]
    for run_id in ids:
        write_journal(command.home / "agents" / "web", run_id, "one", "two", name=f"run-{run_id[0]}")
    done = command("logs", *ids, "--timestamps", "none", "--tail", "3")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["run-b", "run-a", "run-b"]
    assert messages(command("logs", "run-a", "--json", "--tail", "1").stdout) == ["two"]
    assert messages(command("logs", "run-a", "--json", "--grep", "o.e").stdout) == ["one"]


def test_a_flow_is_followed_through_its_runs(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "daily")
    assert "has started" in command("logs", "--flow", "daily").stderr
    ended, going = command.run("daily"), command.run("daily", "--run-name", "going")
    agent.log(ended, ("stdout", "before"))
    agent.state(ended, "Running")
    agent.state(ended, "Success")
    assert "before" in command("logs", "--flow", "daily").stdout
    agent.state(going, "Running")
    agent.log(going, ("stdout", "g1"), ("stdout", "g2"))
    assert "before" not in command("logs", "--flow", "daily").stdout
    with running(command, "logs", "--flow", "daily", "-f", "--tail", "1", "--timestamps", "none") as following:
        assert next_line(following).split() == ["going", "stdout", "g2"]
        later = command.run("daily", "--run-name", "later")
        agent.log(later, ("stdout", "l1"), ("stdout", "l2"))
        agent.state(later, "Running")
        agent.state(later, "Success")
        assert [next_line(following).split()[::2] for _ in range(2)] == [["later", "l1"], ["later", "l2"]]
        assert following.poll() is None


def test_following_ends_when_the_server_was_stopped_but_not_when_it_crashed(
    own_server: ServerProcess, own_command: CommandLine, own_agent: FakeAgent
) -> None:
    register(own_command, "stop")
    run_id = own_command.run("stop")
    own_agent.log(run_id, ("stdout", "x"))
    with own_command.client() as client:
        own_server.kill()
        assert not stop_check(own_server.home / "server.json", client.address)()
        own_server.start()
        with pytest.raises(CommandError, match="was stopped; runs may go on"):
            _follow_until_stopped(client, own_server, run_id)


def _follow_until_stopped(client: UserClient, server: ServerProcess, run_id: str) -> None:
    silence = Silence(is_stopped=stop_check(server.home / "server.json", client.address), stopped_patience_s=0.1)
    lines: list[Line] = []

    def emit_and_stop(new: object) -> None:
        lines.extend(new)  # type: ignore[arg-type]
        server.stop()

    log = GrowingLog(client, run_id, lambda: None)
    with contextlib.closing(client.end_of(run_id)) as end:
        follow(client, run_id, emit_and_stop, log=log, end=end, silence=silence, deadline=time.monotonic() + 60)
    assert lines


def test_what_excludes_each_other_is_refused(command: CommandLine) -> None:
    for options in (
        (),
        ("x", "--flow", "y"),
        ("x", "--project", "y"),
        ("x", "--tail", "1", "--head", "1"),
        ("x", "-f", "--until", "1h"),
        ("x", "--level", "LOUD"),
        ("x", "--stream", "side"),
        ("x", "--grep", "("),
        ("x", "--since", "soon"),
        ("x", "--timestamps", "mine"),
    ):
        assert command("logs", *options, code=2).stderr.startswith("error: "), options
    assert "no flow 'none'" in command("logs", "--flow", "none", code=4).stderr

"""`flowherd logs` from a real server, and from the journal on this host when the server does not have the log."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from flowherd_runner.contract import files
from flowherd_runner.contract.journal import STREAM_NOTICE, STREAM_STDOUT, pack_record, pack_so_far
from tests.acceptance.client_commands.helpers import FakeAgent, next_line, register, running
from tests.support.commands import FLOWHERD, CommandLine
from tests.support.server import ServerProcess

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

NOW_NS = 1_900_000_000_000_000_000


def write_journal(state_dir: Path, run_id: str, *lines: str, name: str = "local") -> Path:
    """Make a run directory with a journal of these lines; returns the directory."""
    directory = state_dir / "runs" / run_id
    directory.mkdir(parents=True)
    files.write_json(str(directory), files.SPEC_FILE, {"flow_run_id": run_id, "flow_run_name": name})
    records = [pack_record(STREAM_STDOUT, 20, NOW_NS + n * 1000, line.encode()) for n, line in enumerate(lines)]
    (directory / files.JOURNAL_FILE).write_bytes(b"".join(records))
    return directory


# From the server


def test_a_run_is_found_by_its_id_its_beginning_and_its_name(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "found")
    run_id = command.run("found", "--run-name", "known")
    agent.log(run_id, ("stdout", "it is me"))
    for text in (run_id, run_id[:8], run_id[:8].upper(), "known"):
        assert "it is me" in command("logs", text).stdout
    assert "flowherd ps" in command("logs", "unknown", code=4).stderr
    command.run("found", "--run-name", "known")
    assert run_id in command("logs", "known", code=2).stderr


def test_log_lines_as_json(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "as-json")
    run_id = command.run("as-json")
    agent.log(run_id, ("stdout", "one"), ("stderr", "two\nlines"), ("log", "thrée"))
    lines = [json.loads(line) for line in command("logs", run_id, "--json").stdout.splitlines()]
    assert [line["message"] for line in lines] == ["one", "two\nlines", "thrée"]
    assert [line["stream"] for line in lines] == ["stdout", "stderr", "log"]
    assert all(set(line) == {"timestamp", "stream", "level", "logger", "message"} for line in lines)
    assert lines[0]["timestamp"] < lines[1]["timestamp"] < lines[2]["timestamp"]


def test_following_ends_when_the_run_ends(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "followed")
    run_id = command.run("followed")
    agent.log(run_id, ("stdout", "first"))
    with running(command, "logs", "-f", run_id) as following:
        assert "first" in next_line(following)
        agent.log(run_id, ("stdout", "second"), at_us=1_800_000_001_000_000)
        assert "second" in next_line(following)
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        assert following.communicate(timeout=60)[0] == ""
        assert following.returncode == 0


def test_an_unfinished_line_is_shown_while_it_grows_and_once_when_it_is_finished(
    command: CommandLine, agent: FakeAgent
) -> None:
    register(command, "bar")
    run_id = command.run("bar")
    at_us = 1_800_000_000_000_000
    agent.log(run_id, ("stderr", " 10%"), at_us=at_us, so_far=True)
    assert [line.split("  ", 2)[1:] for line in command("logs", run_id).stdout.splitlines()] == [["stderr", "   10%"]]
    [as_json] = map(json.loads, command("logs", run_id, "--json").stdout.splitlines())
    assert (as_json["message"], as_json["stream"], as_json["so_far"]) == (" 10%", "stderr", True)
    with running(command, "logs", "-f", run_id) as following:
        assert following.stdout is not None
        shown = ""
        for number, (text, is_line) in enumerate(
            [(" 10%", False), (" 20%", False), ("100%", True), ("Name", False), ("Name? Ada", True)]
        ):
            agent.log(run_id, ("stderr", text), at_us=at_us + 1 + number, so_far=not is_line)
            while text not in shown:
                shown += following.stdout.read(1)
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        shown += following.communicate(timeout=60)[0]
    # Universal newlines: the carriage return before each text that replaces another is a newline here.
    assert [line.split("  ", 2)[-1].strip() for line in shown.splitlines()] == ["10%", "20%", "100%", "Name? Ada"]


def test_following_goes_on_after_a_restart_of_the_server(
    own_command: CommandLine, own_server: ServerProcess, own_agent: FakeAgent
) -> None:
    register(own_command, "hello")
    run_id = own_command.run("hello")
    own_agent.log(run_id, ("stdout", "before"))
    with running(own_command, "logs", "-f", run_id) as following:
        assert "before" in next_line(following)
        own_server.restart()
        own_agent.log(run_id, ("stdout", "after"), at_us=1_800_000_001_000_000)
        own_agent.state(run_id, "Running")
        own_agent.state(run_id, "Success")
        rest, _ = following.communicate(timeout=60)
        assert [line.split()[-1] for line in rest.splitlines()] == ["after"]


def test_a_reader_that_closes_the_pipe_is_not_an_error(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "long")
    run_id = command.run("long")
    agent.log(run_id, *[("stdout", "x" * 200)] * 3000)
    shell = f"{' '.join(FLOWHERD)} logs {run_id} | head -1"
    done = subprocess.run(["sh", "-c", shell], env=command.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


# From the journal


def test_text_so_far_of_the_journal_is_shown_until_its_line_is_finished(command: CommandLine) -> None:
    register(command, "unsent-bar")
    run_id = command.run("unsent-bar")
    directory = write_journal(command.home / "agents" / "web", run_id, "a line")
    with (directory / files.JOURNAL_FILE).open("ab") as journal:
        for number, text in enumerate((b"10%", b"20%")):
            journal.write(pack_so_far(STREAM_STDOUT, 20, NOW_NS + 9000 + number * 1000, text, standing=number == 1))
    assert [line.split()[-1] for line in command("logs", run_id).stdout.splitlines()] == ["line", "20%"]
    with (directory / files.JOURNAL_FILE).open("ab") as journal:
        journal.write(pack_record(STREAM_STDOUT, 20, NOW_NS + 99_000, b"100%"))
    assert [line.split()[-1] for line in command("logs", run_id).stdout.splitlines()] == ["line", "100%"]


def test_a_log_that_the_server_does_not_have_is_read_from_the_journal(command: CommandLine, tmp_path: Path) -> None:
    register(command, "unsent")
    run_id = command.run("unsent")
    assert command("logs", run_id).stdout == ""
    write_journal(command.home / "agents" / "web", run_id, "from the journal")
    assert "from the journal" in command("logs", run_id).stdout
    other = command.run("unsent")
    write_journal(tmp_path / "elsewhere", other, "moved")
    assert command("logs", other).stdout == ""
    assert "moved" in command("logs", other, "--state-dir", str(tmp_path / "elsewhere")).stdout


def test_without_a_server_the_journal_is_read(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home")
    run_id = str(uuid.uuid4())
    write_journal(command.home / "agents" / "web", run_id, "one", "two", name="nightly")
    for text in (run_id, run_id[:6], "nightly"):
        done = command("logs", text, "--json")
        assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == ["one", "two"]
        assert "from the journal" in done.stderr
    assert "error: " in command("logs", "unknown", code=3).stderr


def test_following_a_journal_ends_with_the_exit_record(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home")
    directory = write_journal(command.home / "agents" / "web", str(uuid.uuid4()), "one")
    with running(command, "logs", "-f", directory.name) as following:
        assert "one" in next_line(following)
        with (directory / files.JOURNAL_FILE).open("ab") as journal:
            journal.write(pack_record(STREAM_NOTICE, 20, NOW_NS + 10**9, b'{"message": "two"}'))
        assert "two" in next_line(following)
        files.write_json(str(directory), files.EXIT_FILE, {})
        assert following.communicate(timeout=60)[0] == ""


def test_following_a_run_whose_log_is_not_sent_reads_its_journal(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "local")
    run_id = command.run("local")
    agent.state(run_id, "Running")
    directory = write_journal(command.home / "agents" / "web", run_id, "one")
    with running(command, "logs", "-f", run_id) as following:
        assert "one" in next_line(following)
        with (directory / files.JOURNAL_FILE).open("ab") as journal:
            journal.write(pack_record(STREAM_STDOUT, 20, NOW_NS + 10**9, b"two"))
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        rest, _ = following.communicate(timeout=60)
        assert [line.split()[-1] for line in rest.splitlines()] == ["two"]

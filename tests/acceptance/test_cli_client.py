"""The client commands against a real server process: register, run, ps, logs, cancel, poke. No agent is needed."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.client.user import UserClient
from flowherd_runner.contract import files
from flowherd_runner.contract.journal import STREAM_NOTICE, STREAM_STDOUT, pack_record
from tests.support.commands import FLOWHERD, CommandLine
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

HOST = socket.gethostname()
#: Holds the connection by which the server knows that an agent is there.
WAITING = """
import json, sys, urllib.request
seen = 0
while True:
    with urllib.request.urlopen(f"{sys.argv[1]}&seen={seen}") as answer:
        seen = json.load(answer)["sequence"]
"""
NOW_NS = 1_900_000_000_000_000_000


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    """flowherd at home where the server of the test is."""
    return CommandLine(tmp_path / "data-home")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def transport(server: ServerProcess) -> Iterator[GraphQLTransport]:
    transport = GraphQLTransport(server.url)
    yield transport
    transport.close()


class FakeAgent:
    """What an agent does at the server, as far as the client commands see it: takes a run, logs, ends it."""

    def __init__(self, transport: GraphQLTransport) -> None:
        self._transport = transport

    def state(self, run_id: str, state: str, message: str = "", **flowherd: Any) -> None:
        query = (
            "mutation($input: set_flow_run_states_input!) { set_flow_run_states(input: $input) { states { status } } }"
        )
        given = {"type": state, "message": message, "context": {"flowherd": flowherd}}
        states = [{"flow_run_id": run_id, "version": None, "state": given}]
        self._transport.execute(query, {"input": {"states": states}})

    def log(self, run_id: str, *lines: tuple[str, str], at_us: int = 1_800_000_000_000_000) -> None:
        query = "mutation($input: write_run_logs_input!) { write_run_logs(input: $input) { success } }"
        logs = [
            {
                "flow_run_id": run_id,
                "timestamp": datetime.fromtimestamp((at_us + number) / 1e6, timezone.utc).isoformat(),
                "name": stream,
                "level": "INFO",
                "message": message,
                "info": {"stream": stream},
            }
            for number, (stream, message) in enumerate(lines)
        ]
        self._transport.execute(query, {"input": {"logs": logs}})


@pytest.fixture
def agent(transport: GraphQLTransport) -> FakeAgent:
    return FakeAgent(transport)


def register(command: CommandLine, name: str = "hello", *options: str) -> dict[str, Any]:
    done = command("register", name, "--json", *options, "--command", "--", "echo", "hello")
    return json.loads(done.stdout)


def shown(command: CommandLine, run_id: str) -> dict[str, Any]:
    return next(run for run in command.json("ps", "--all") if run["id"] == run_id)


# -- where the API is


def test_without_any_api_the_error_says_how_to_get_one(command: CommandLine) -> None:
    done = command("ps", code=3)
    assert done.stderr.startswith("error: ")
    assert "flowherd start" in done.stderr
    assert "flowherd server" in done.stderr


def test_the_running_server_is_found_and_no_longer_when_it_was_killed(
    command: CommandLine, server: ServerProcess
) -> None:
    assert command.json("ps") == []
    server.kill()
    assert (command.home / "server.json").exists()
    assert "no API is known" in command("ps", code=3).stderr


def test_a_flag_is_stronger_than_the_settings(command: CommandLine, server: ServerProcess) -> None:
    elsewhere = CommandLine(command.home, {"FLOWHERD__CLOUD__API": "http://127.0.0.1:9"})
    assert "http://127.0.0.1:9" in elsewhere("ps", code=3).stderr
    assert elsewhere.json("ps", "--api", server.url) == []


def test_the_api_of_prefects_configuration_is_used(command: CommandLine, server: ServerProcess, tmp_path: Path) -> None:
    away = CommandLine(tmp_path / "other-home", {"PREFECT__CLOUD__API": server.url})
    assert away.json("ps") == []


def test_a_wrong_token_is_a_matter_of_settings(tmp_path: Path, command: CommandLine) -> None:
    with running_server(tmp_path / "data", token="right") as server:
        assert "token" in command("ps", code=2).stderr
        knowing = CommandLine(command.home, {"FLOWHERD__CLOUD__AUTH_TOKEN": "right"})
        assert knowing.json("ps") == []
        own = CommandLine(command.home, {"FLOWHERD__SERVER__TOKEN": "right"})
        assert own.json("ps") == []
        # A server's own token is for that server, not for whatever address is set.
        assert "token" in own("ps", "--api", server.url, code=2).stderr


# -- register


def test_a_flow_gets_this_hosts_label_and_a_version(
    command: CommandLine, server: ServerProcess, transport: GraphQLTransport
) -> None:
    first, second = register(command), register(command, "hello", "-l", "gpu")
    assert (first["version"], second["version"]) == (1, 2)
    assert first["labels"] == [HOST]
    assert second["labels"] == sorted([HOST, "gpu"])
    assert register(command, "free", "--any-host")["labels"] == []
    flow = transport.execute('query { flow(where: {name: {_eq: "free"}}) { run_config } }')["flow"][0]
    assert flow["run_config"]["labels"] == []


def test_everything_that_is_said_at_registration_reaches_the_server(
    command: CommandLine, server: ServerProcess, transport: GraphQLTransport, tmp_path: Path
) -> None:
    (tmp_path / "flows.py").write_text("def main(n=0): pass\n")
    options = [
        "--python",
        f"{tmp_path}/flows.py:main",
        "-e",
        "A=b=c",
        "--working-dir",
        str(tmp_path),
        "--preload",
        "json",
    ]
    limits = ["--memory", "200M", "--processes", "5", "--timeout", "10m", "--open-files", "64", "--cpu-time", "90s"]
    others = ["--grace", "3s", "--user", "nobody", "-p", "n=0", "--project", "mine", "--interpreter", "sh"]
    command("register", "full", *options, *limits, *others)
    row = transport.execute("query { flow { name storage run_config parameters project { name } } }")["flow"][0]
    assert row["project"] == {"name": "mine"}
    assert row["storage"]["type"] == "Python"
    assert row["storage"]["ref"] == f"{tmp_path}/flows.py:main"
    assert row["parameters"][0]["default"] == 0
    config = row["run_config"]
    assert config["env"] == {"A": "b=c"}
    assert config["working_dir"] == str(tmp_path)
    assert config["preload"] == ["json"]
    assert config["grace_s"] == 3.0
    assert config["user"] == "nobody"
    assert Path(config["interpreter"]).is_absolute()
    assert config["limits"] == {
        "memory_bytes": 200 << 20,
        "processes": 5,
        "run_time_s": 600.0,
        "open_files": 64,
        "cpu_time_s": 90,
    }


def test_a_schedule_creates_runs(command: CommandLine, server: ServerProcess) -> None:
    register(command, "often", "--interval", "1h", "-p", "n=0")
    runs = wait_until(lambda: command.json("ps"), what="the runs of the schedule")
    assert {run["flow"] for run in runs} == {"often"}
    assert all(run["state"] == "Scheduled" for run in runs)
    assert runs[0]["parameters"] == {"n": 0}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--python REF"),
        (["--command"], "--command"),
        (["--python", "a:b", "--command", "--", "x"], "exclude"),
        (["--cron", "x", "--interval", "5m", "--command", "--", "true"], "exclude"),
        (["--cron", "never", "--command", "--", "true"], "--cron"),
        (["--interval", "0.1s", "--command", "--", "true"], "--interval"),
        (["--memory", "much", "--command", "--", "true"], "--memory"),
        (["-e", "novalue", "--command", "--", "true"], "-e"),
    ],
)
def test_what_is_said_wrongly_is_refused_before_anybody_is_asked(
    command: CommandLine, arguments: list[str], words: str
) -> None:
    done = command("register", "x", *arguments, code=2)
    assert done.stderr.startswith("error: ")
    assert words in done.stderr


def test_a_program_that_is_not_here_is_a_warning(command: CommandLine, server: ServerProcess) -> None:
    done = command("register", "far", "--command", "--", "no-such-program")
    assert "warning: " in done.stderr
    assert "registered far" in done.stdout


# -- run


def test_run_says_at_once_when_nobody_will_take_it(command: CommandLine, server: ServerProcess) -> None:
    register(command)
    done = command("run", "hello")
    uuid.UUID(done.stdout.strip())
    assert "no agent" in done.stderr
    assert HOST in done.stderr
    assert HOST in command.json("run", "hello")["warning"]


def test_run_names_the_label_that_is_missing(
    command: CommandLine, server: ServerProcess, transport: GraphQLTransport
) -> None:
    """Of the agents that are there, by the server's own word on which are connected."""
    register(command, "hello", "-l", "gpu")
    query = "mutation($input: register_agent_input!) { register_agent(input: $input) { id } }"
    given = {"type": "LocalAgent", "name": "here", "labels": [HOST], "tenant_id": None}
    agent_id = transport.execute(query, {"input": given})["register_agent"]["id"]
    waiting = subprocess.Popen([sys.executable, "-c", WAITING, f"{server.url}/agents/{agent_id}/wake?timeout=60"])
    try:
        user = UserClient(transport)
        wait_until(lambda: user.agents()[0].connected, what="the agent's connection")
        warning = command.json("run", "hello")["warning"]
        assert "label gpu" in warning
        assert f"here [{HOST}]" in warning
        assert "warning" not in command.json("run", "hello", "-l", HOST)
        assert shown(command, command.run("hello", "-l", "other"))["labels"] == ["other"]
    finally:
        waiting.kill()
        waiting.wait()


def test_parameters_are_merged_with_the_flows_defaults(command: CommandLine, server: ServerProcess) -> None:
    register(command, "hello", "-p", "a=1", "-p", "b=0", "-p", 'c={"x": []}')
    run_id = command.run("hello", "-p", "a=2", "-p", "d=text")
    assert shown(command, run_id)["parameters"] == {"a": 2, "b": 0, "c": {"x": []}, "d": "text"}


def test_a_run_can_start_later(command: CommandLine, server: ServerProcess) -> None:
    register(command)
    at = shown(command, command.run("hello", "--at", "2099-01-31T08:00:00Z"))
    assert at["scheduled_start_time"] == "2099-01-31T08:00:00+00:00"
    before = datetime.now(timezone.utc)
    soon = datetime.fromisoformat(shown(command, command.run("hello", "--in", "1h30m"))["scheduled_start_time"])
    assert 5390 < (soon - before).total_seconds() < 5500
    assert "exclude" in command("run", "hello", "--at", "2099-01-31", "--in", "5m", code=2).stderr


def test_an_unknown_flow_is_not_found_and_a_close_one_is_named(command: CommandLine, server: ServerProcess) -> None:
    register(command, "wordcount")
    assert "did you mean wordcount?" in command("run", "wordcuont", code=4).stderr


def test_a_name_in_two_projects_needs_the_project(command: CommandLine, server: ServerProcess) -> None:
    register(command, "hello", "--project", "one")
    register(command, "hello", "--project", "two")
    assert "one, two" in command("run", "hello", code=2).stderr
    command("run", "hello", "--project", "two")


@pytest.mark.parametrize(("state", "code"), [("Success", 0), ("Failed", 1), ("Cancelled", 5)])
def test_wait_streams_the_log_and_its_exit_code_is_the_runs_end(
    command: CommandLine, server: ServerProcess, agent: FakeAgent, state: str, code: int
) -> None:
    register(command)
    with _going(command, "run", "hello", "--wait", "--run-name", "waited") as waiting:
        run_id = _line(waiting).strip()
        agent.state(run_id, "Running", pid=12)
        agent.log(run_id, ("stdout", "first"), at_us=1_800_000_000_000_500)
        assert "first" in _line(waiting)
        # Arrives later and was said earlier: it is not lost, although the log has been read beyond its time.
        agent.log(run_id, ("flowherd", "said earlier"))
        assert "said earlier" in _line(waiting)
        agent.log(run_id, *[("stdout", f"line {number}") for number in range(2500)], at_us=1_800_000_001_000_000)
        agent.state(run_id, state, "the end", reason="exited")
        rest, errors = waiting.communicate(timeout=60)
        assert [line.split()[-2:] for line in rest.splitlines()] == [["line", str(number)] for number in range(2500)]
        assert f"waited: {state}: the end" in errors
        assert waiting.returncode == code


def test_wait_with_a_timeout_leaves_the_run_going(command: CommandLine, server: ServerProcess) -> None:
    register(command)
    done = command("run", "hello", "--wait", "--timeout", "0.5s", "--json", code=6)
    assert json.loads(done.stdout)["state"] == "Scheduled"
    assert "flowherd logs -f" in done.stderr
    assert "--wait" in command("run", "hello", "--timeout", "5s", code=2).stderr


def test_an_interrupted_wait_leaves_the_run_going_and_says_how_to_end_it(
    command: CommandLine, server: ServerProcess, agent: FakeAgent
) -> None:
    register(command)
    with _going(command, "run", "hello", "--wait") as waiting:
        run_id = _line(waiting).strip()
        agent.log(run_id, ("stdout", "going"))
        assert "going" in _line(waiting)
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=60)
        assert waiting.returncode == 130
        assert f"flowherd cancel {run_id}" in errors
        assert shown(command, run_id)["state"] == "Scheduled"


# -- ps


def test_ps_shows_what_is_not_finished_and_all_on_request(
    command: CommandLine, server: ServerProcess, agent: FakeAgent
) -> None:
    register(command)
    going, ended = command.run("hello", "--run-name", "going"), command.run("hello")
    agent.state(going, "Running", "at work", pid=4711)
    agent.state(ended, "Failed", "broke", reason="exception")
    (run,) = command.json("ps")
    assert {"id", "name", "flow", "state", "message", "labels", "agent", "pid", "start_time", "end_time"} <= set(run)
    assert (run["id"], run["name"], run["flow"], run["state"], run["pid"]) == (going, "going", "hello", "Running", 4711)
    assert (run["message"], run["labels"], run["end_time"]) == ("at work", [HOST], None)
    assert datetime.fromisoformat(run["start_time"]).tzinfo is not None
    assert {run["id"] for run in command.json("ps", "--all")} == {going, ended}
    assert len(command.json("ps", "--all", "--limit", "1")) == 1
    assert shown(command, ended)["reason"] == "exception"


def test_piped_ps_is_plain_columns(command: CommandLine, server: ServerProcess, agent: FakeAgent) -> None:
    register(command)
    run_id = command.run("hello")
    agent.state(run_id, "Running", "two\nlines \x1b[31mred")
    head, row = command("ps").stdout.splitlines()
    assert head.split()[:4] == ["ID", "NAME", "FLOW", "STATE"]
    assert row.startswith(run_id)
    assert "\x1b" not in row


# -- logs


def test_a_run_is_found_by_its_id_its_beginning_and_its_name(
    command: CommandLine, server: ServerProcess, agent: FakeAgent
) -> None:
    register(command)
    run_id = command.run("hello", "--run-name", "known")
    agent.log(run_id, ("stdout", "it is me"))
    for text in (run_id, run_id[:8], run_id[:8].upper(), "known"):
        assert "it is me" in command("logs", text).stdout
    assert "flowherd ps" in command("logs", "unknown", code=4).stderr
    command.run("hello", "--run-name", "known")
    assert run_id in command("logs", "known", code=2).stderr


def test_log_lines_as_json(command: CommandLine, server: ServerProcess, agent: FakeAgent) -> None:
    register(command)
    run_id = command.run("hello")
    agent.log(run_id, ("stdout", "one"), ("stderr", "two\nlines"), ("log", "thrée"))
    lines = [json.loads(line) for line in command("logs", run_id, "--json").stdout.splitlines()]
    assert [line["message"] for line in lines] == ["one", "two\nlines", "thrée"]
    assert [line["stream"] for line in lines] == ["stdout", "stderr", "log"]
    assert all(set(line) == {"timestamp", "stream", "level", "logger", "message"} for line in lines)
    assert lines[0]["timestamp"] < lines[1]["timestamp"] < lines[2]["timestamp"]


def test_following_ends_with_the_run(command: CommandLine, server: ServerProcess, agent: FakeAgent) -> None:
    register(command)
    run_id = command.run("hello")
    agent.log(run_id, ("stdout", "first"))
    with _going(command, "logs", "-f", run_id) as following:
        assert "first" in _line(following)
        agent.log(run_id, ("stdout", "second"), at_us=1_800_000_001_000_000)
        assert "second" in _line(following)
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        assert following.communicate(timeout=60)[0] == ""
        assert following.returncode == 0


def test_following_outlives_a_restart_of_the_server(
    command: CommandLine, server: ServerProcess, agent: FakeAgent
) -> None:
    register(command)
    run_id = command.run("hello")
    agent.log(run_id, ("stdout", "before"))
    with _going(command, "logs", "-f", run_id) as following:
        assert "before" in _line(following)
        server.restart()
        agent.log(run_id, ("stdout", "after"), at_us=1_800_000_001_000_000)
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        rest, _ = following.communicate(timeout=60)
        assert [line.split()[-1] for line in rest.splitlines()] == ["after"]


def test_a_reader_that_goes_away_is_no_error(command: CommandLine, server: ServerProcess, agent: FakeAgent) -> None:
    register(command)
    run_id = command.run("hello")
    agent.log(run_id, *[("stdout", "x" * 200)] * 3000)
    shell = f"{' '.join(FLOWHERD)} logs {run_id} | head -1"
    done = subprocess.run(["sh", "-c", shell], env=command.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def _journal(state_dir: Path, run_id: str, *lines: str, name: str = "local") -> Path:
    directory = state_dir / "runs" / run_id
    directory.mkdir(parents=True)
    files.write_json(str(directory), files.SPEC_FILE, {"flow_run_id": run_id, "flow_run_name": name})
    records = [pack_record(STREAM_STDOUT, 20, NOW_NS + n * 1000, line.encode()) for n, line in enumerate(lines)]
    (directory / files.JOURNAL_FILE).write_bytes(b"".join(records))
    return directory


def test_a_log_that_no_backend_has_is_read_from_the_journal(
    command: CommandLine, server: ServerProcess, tmp_path: Path
) -> None:
    register(command)
    run_id = command.run("hello")
    assert command("logs", run_id).stdout == ""
    _journal(command.home / "agents" / "web", run_id, "from the journal")
    assert "from the journal" in command("logs", run_id).stdout
    other = command.run("hello")
    _journal(tmp_path / "elsewhere", other, "moved")
    assert command("logs", other).stdout == ""
    assert "moved" in command("logs", other, "--state-dir", str(tmp_path / "elsewhere")).stdout


def test_without_a_backend_the_journal_is_read(command: CommandLine) -> None:
    run_id = str(uuid.uuid4())
    _journal(command.home / "agents" / "web", run_id, "one", "two", name="nightly")
    for text in (run_id, run_id[:6], "nightly"):
        done = command("logs", text, "--json")
        assert [json.loads(line)["message"] for line in done.stdout.splitlines()] == ["one", "two"]
        assert "from the journal" in done.stderr
    assert "error: " in command("logs", "unknown", code=3).stderr


def test_following_a_journal_ends_with_the_exit_record(command: CommandLine) -> None:
    directory = _journal(command.home / "agents" / "web", str(uuid.uuid4()), "one")
    with _going(command, "logs", "-f", directory.name) as following:
        assert "one" in _line(following)
        with (directory / files.JOURNAL_FILE).open("ab") as journal:
            journal.write(pack_record(STREAM_NOTICE, 20, NOW_NS + 10**9, b'{"message": "two"}'))
        assert "two" in _line(following)
        files.write_json(str(directory), files.EXIT_FILE, {})
        assert following.communicate(timeout=60)[0] == ""


def test_following_a_run_without_cloud_logs_goes_by_its_journal(
    command: CommandLine, server: ServerProcess, agent: FakeAgent
) -> None:
    register(command)
    run_id = command.run("hello")
    agent.state(run_id, "Running")
    directory = _journal(command.home / "agents" / "web", run_id, "one")
    with _going(command, "logs", "-f", run_id) as following:
        assert "one" in _line(following)
        with (directory / files.JOURNAL_FILE).open("ab") as journal:
            journal.write(pack_record(STREAM_STDOUT, 20, NOW_NS + 10**9, b"two"))
        agent.state(run_id, "Running")
        agent.state(run_id, "Success")
        rest, _ = following.communicate(timeout=60)
        assert [line.split()[-1] for line in rest.splitlines()] == ["two"]


# -- cancel, poke


def test_cancel_asks_once(command: CommandLine, server: ServerProcess, agent: FakeAgent) -> None:
    register(command)
    waiting, going = command.run("hello"), command.run("hello")
    agent.state(going, "Running")
    assert command.json("cancel", waiting) == {"id": waiting, "state": "Cancelled", "was_finished": False}
    assert command.json("cancel", going[:8])["state"] == "Cancelling"
    done = command("cancel", waiting, code=1)
    assert "finished already: Cancelled" in done.stderr
    command("cancel", str(uuid.uuid4()), code=4)


def test_poke_tells_how_many_it_woke(command: CommandLine, server: ServerProcess) -> None:
    done = command("poke", code=1)
    assert done.stdout == "woke 0 agents\n"
    assert "no answer" in command("poke", "--agent-address", "127.0.0.1:9", code=3).stderr


# -- helpers


@contextmanager
def _going(command: CommandLine, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command that goes on; whatever becomes of the test, it is gone at the end of the block."""
    process = subprocess.Popen(
        [*FLOWHERD, *arguments],
        env=command.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        with process:
            pass


def _line(process: subprocess.Popen[str]) -> str:
    """The next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline()

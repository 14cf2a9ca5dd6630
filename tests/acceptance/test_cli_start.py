"""`flowherd start`, `server` and `demo` as processes: the server beside the agent, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd import __version__
from tests.support.commands import FLOWHERD, READY, CommandLine, background
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def command(tmp_path: Path) -> Iterator[CommandLine]:
    home = tmp_path / "home"
    home.mkdir()
    # Port 0 picks a free one: other programs may use the default port.
    yield CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})


def announced(command: CommandLine) -> dict[str, object]:
    return json.loads((command.home / "server.json").read_text())


def test_without_an_api_start_also_starts_a_server_and_ends_it_with_itself(command: CommandLine) -> None:
    with background(command, "start", until=READY) as agent:
        url = str(announced(command)["url"])
        assert "brought up the embedded server" in agent.text()
        assert url in agent.text()
        command("register", "hello", "--command", "--", "echo", "hello world")
        done = command("run", "hello", "--wait")
        assert "hello world" in done.stdout
        assert "warning" not in done.stderr
        assert agent.stop() == 0
    assert not (command.home / "server.json").exists()
    command("ps", code=3)


def test_a_server_that_ends_by_itself_is_started_again_beside_the_agent(command: CommandLine) -> None:
    with background(command, "start", until=READY) as agent:
        first = announced(command)
        os.kill(int(str(first["pid"])), signal.SIGKILL)
        wait_until(lambda: announced(command)["pid"] != first["pid"], what=agent.text)
        assert announced(command)["url"] == first["url"]
        command("register", "hello", "--command", "--", "echo", "hello world")
        assert "hello world" in command("run", "hello", "--wait").stdout
        assert "the embedded server has ended (exit code -9)" in agent.text()
        assert agent.stop() == 0
    assert not (command.home / "server.json").exists()


def test_an_agent_with_its_own_server_ends_its_runs_when_it_stops(command: CommandLine) -> None:
    with background(command, "start", until=READY) as agent:
        command("register", "long", "--command", "--", "sleep", "1000")
        run_id = command.run("long")
        wait_until(lambda: command.runs()[run_id]["state"] == "Running", what="the run")
        assert agent.stop() == 0
    with background(command, "server", "--port", "0", until="ready at"):
        assert command.runs()[run_id]["state"] in ("Cancelled", "Failed")


def test_start_uses_a_server_that_is_running(command: CommandLine) -> None:
    with background(command, "server", "--port", "0", until="ready at") as server:
        with background(command, "start", "-n", "second", until=READY) as agent:
            assert "using the embedded server" in agent.text()
            assert {a["name"] for a in command.json("status", "-n", "second")["agents"]} == {"second"}
            assert agent.stop() == 0
        assert command.json("ps") == []
        assert announced(command)["pid"] == server.process.pid, "a service manager signals the pid that it started"
        assert server.stop() == 0


def test_of_two_agents_that_start_at_the_same_time_one_brings_up_the_server_for_both(command: CommandLine) -> None:
    with (
        background(command, "start", "-n", "one", until="") as one,
        background(command, "start", "-n", "two", until="") as two,
    ):
        agents = one, two
        wait_until(
            lambda: all(READY in agent.text() for agent in agents),
            what=lambda: "\n".join(agent.text() for agent in agents),
            timeout_s=60,
        )
        assert sorted("brought up the embedded server" in agent.text() for agent in agents) == [False, True]
        assert {agent["name"] for agent in command.json("agents")} == {"one", "two"}


def test_the_server_beside_an_agent_ends_when_the_agent_is_killed(command: CommandLine) -> None:
    with background(command, "start", until=READY) as agent:
        pid = int(str(announced(command)["pid"]))
        agent.kill()
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the server's end")


def test_the_options_reach_the_agent(command: CommandLine, tmp_path: Path) -> None:
    """Those of Prefect's agent and flowherd's own: labels, values with equals signs, import paths, state directory."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "helper.py").write_text("import os\ndef tell(): print(os.environ['A'], __file__)\n")
    with background(command, "server", "--port", "0", until="ready at"):
        flags = ["-n", "web", "-l", "gpu", "-e", "A=b=c", "-p", str(tmp_path / "lib"), "--no-hostname-label"]
        with background(command, "start", *flags, "--state-dir", str(tmp_path / "state"), until=READY):
            command("register", "tell", "--any-host", "-l", "gpu", "--python", "helper:tell")
            done = command("run", "tell", "--wait")
            assert f"b=c {tmp_path}/lib/helper.py" in done.stdout
            assert (tmp_path / "state" / "runs").is_dir()
            status = command.json("status", "-n", "web", "--state-dir", str(tmp_path / "state"))
            assert status["local"]["up"] is True
            assert status["agents"][0]["labels"] == ["gpu"]
            assert command("poke").stdout == "woke 1 agent\n"


def test_max_polls_ends_the_agent(command: CommandLine) -> None:
    done = command("start", "--max-polls", "2", timeout_s=120)
    assert "brought up the embedded server" in done.stderr
    assert not (command.home / "server.json").exists()


def test_a_server_that_cannot_start_is_an_error_at_once(command: CommandLine) -> None:
    with background(command, "server", "--port", "0", until="ready at"):
        taken = str(announced(command)["url"]).rpartition(":")[2]
        other = CommandLine(command.home.parent / "other", {"FLOWHERD__SERVER__BIND_PORT": taken})
        done = other("start", code=2)
        assert taken in done.stderr and "--server-port" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: ")
        (line,) = other("server", code=2).stderr.splitlines()
        assert line.startswith("flowherd server: ") and taken in line
        assert f"a flowherd server ({__version__}) listens there" in line and "--port" in line


def test_the_port_of_the_server_is_an_option_of_start(command: CommandLine) -> None:
    port = free_port()
    with background(command, "start", "--server-port", str(port), until=READY) as agent:
        assert announced(command)["url"] == f"http://127.0.0.1:{port}"
        refused = command("start", "--server-port", "0", code=1).stderr
        assert "so --server-port has no effect" in refused
        assert "uses the state directory" in refused and "Stopped" not in refused
        assert agent.stop() == 0
        assert "Stopped LocalAgent" in agent.text()
    assert "another one" in command("start", "-a", "http://127.0.0.1:1", "--server-port", "0", code=2).stderr


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no way to keep the current directory out")
def test_the_server_imports_nothing_from_the_current_directory(
    command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module of the user's flows may have the name of one that the server needs."""
    (tmp_path / "graphql.py").write_text("raise SystemExit('the wrong graphql')")
    monkeypatch.chdir(tmp_path)
    with background(command, "server", "--port", "0", until="ready at") as server:
        assert server.stop() == 0


def test_without_cloud_logs_the_log_is_read_from_the_journal(command: CommandLine) -> None:
    with background(command, "start", "--no-cloud-logs", until=READY) as agent:
        command("register", "hello", "--command", "--", "echo", "only here")
        run_id = command.run("hello")
        command.wait_for_ends([run_id])
        assert "only here" in command("logs", run_id).stdout
        assert agent.stop() == 0
    assert "only here" in command("logs", run_id).stdout


def test_the_demo_succeeds_and_leaves_nothing_behind(command: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    done = CommandLine(command.home, {"TMPDIR": str(place)})("demo", timeout_s=200)
    assert list(place.iterdir()) == []
    for flow in ("wordcount", "checksum", "failing", "exit-three", "sleeper", "hog"):
        assert f"ok   {flow}" in done.stdout
    assert "Traceback" in done.stdout
    assert "Cancelled" in done.stdout
    assert "\x1b" not in done.stdout


def test_an_interrupted_demo_leaves_nothing_behind(command: CommandLine, tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    place.mkdir()
    environ = {**command.environment(), "TMPDIR": str(place)}
    demo = subprocess.Popen([*FLOWHERD, "demo"], env=environ, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "has joined" in line:
            demo.send_signal(signal.SIGINT)
            break
    demo.communicate(timeout=90)
    assert demo.returncode == 130
    assert list(place.iterdir()) == []


def test_an_agent_of_a_work_pool_logs_at_once_that_no_interpreter_has_its_prefect(command: CommandLine) -> None:
    words = "No interpreter with Prefect 3 is known here"
    with background(command, "start", "--pool", "p", "--api", "http://127.0.0.1:9/api", until=words) as agent:
        assert "--runtime NAME=VIRTUAL-ENVIRONMENT" in agent.text()

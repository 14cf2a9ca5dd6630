"""A cleaner of temporary files that works in the state directory of a running agent costs neither agent nor run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowherd_runner.contract import files
from tests.support.commands import FLOWHERD, READY, Background, CommandLine, background
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})


@contextmanager
def stopped(agent: Background) -> Iterator[None]:
    """The agent does nothing in the block."""
    agent.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        agent.process.send_signal(signal.SIGCONT)


def test_a_removed_control_socket_is_reported_and_made_again(command: CommandLine) -> None:
    with background(command, "start", until=READY) as agent:
        state_dir = command.home / "agents" / "agent"
        with stopped(agent):  # so that it does not make the socket again at once
            (state_dir / "control.sock").unlink()
            status = command("status")
            assert f"up, pid {agent.process.pid}" in status.stdout
            assert "control.sock; the agent makes what is missing again" in status.stdout
            waiting = subprocess.Popen(
                [*FLOWHERD, "pause"], env=command.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            assert waiting.stderr is not None
            assert b"waiting for the agent to make it again" in waiting.stderr.readline()
        waiting.stderr.close()
        assert waiting.wait(30) == 0
        assert command.json("status")["local"]["status"] == "paused"
        with stopped(agent):
            shutil.rmtree(state_dir)
            assert command.json("status")["local"]["pid"] == agent.process.pid
            second = command("start", code=None, timeout_s=30)
            assert f"another agent (pid {agent.process.pid}; {state_dir} was removed" in second.stderr
        wait_until(lambda: command.json("status")["local"]["missing"] == [], timeout_s=30, every_s=0.5)
        assert (state_dir / "paused").exists()
        assert "Removed from" in agent.text()
        second = command("start", code=None, timeout_s=30)
        assert second.returncode != 0
        assert f"another agent (pid {agent.process.pid}) uses the state directory" in second.stderr


def test_a_run_goes_on_when_everything_of_it_is_removed(command: CommandLine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with background(command, "start", until=READY):
        script = f"echo before; while [ ! -e {go} ]; do sleep 0.05; done; echo after"
        command("register", "long", "--command", "--", "sh", "-c", script)
        run_id = command.run("long")
        wait_until(lambda: "before" in command.lines(run_id), every_s=0.3)
        shutil.rmtree(command.home / "agents" / "agent" / "runs")
        go.touch()
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"
        assert command.lines(run_id) == ["before", "after"]


def test_the_next_agent_does_not_take_a_run_without_its_lock_for_dead(command: CommandLine, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with background(command, "server", until="ready at"):
        with background(command, "start", until=READY) as first:
            script = f"while [ ! -e {go} ]; do sleep 0.05; done; echo after"
            command("register", "long", "--command", "--", "sh", "-c", script)
            run_id = command.run("long")
            directory = command.home / "agents" / "agent" / "runs" / run_id
            started = wait_until(lambda: files.read_json(str(directory), files.STARTED_FILE))
            first.kill()
        os.kill(started["pid"], signal.SIGSTOP)  # so that it does not make its files again at once
        for name in (files.LOCK_FILE, files.STARTED_FILE, files.SPEC_FILE):
            (directory / name).unlink()
        with background(command, "start", until=READY) as second:
            wait_until(lambda: f"its runner (pid {started['pid']}) lives" in second.text(), what=second.text)
            os.kill(started["pid"], signal.SIGCONT)
            go.touch()
            assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"
            assert command.lines(run_id) == ["after"]


def test_a_directory_that_others_can_write_to_is_refused_as_a_wrong_setting(
    command: CommandLine, tmp_path: Path
) -> None:
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    refused = command("start", "--state-dir", str(place), code=2)
    assert "can be written by other users" in refused.stderr
    assert list(place.iterdir()) == []

"""HUP, USR1 and USR2 of an agent with fifty runs, also when its terminal is closed, through the command line."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import READY, CommandLine
from tests.support.terminal import Terminal, on_terminal
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(180)]

RUNS = 50


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    return CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})


class Settings:
    """The settings file of a home, with a log file."""

    def __init__(self, command: CommandLine) -> None:
        self._path = command.home / "config.toml"
        self.log = command.home.parent / "agent.log"

    def write(self, agent: str, more: str = "") -> None:
        self._path.write_text(f"[agent]\n{agent}\n[logging]\nfile = '{self.log}'\n{more}\n")

    def wait_for(self, words: str, times: int = 1) -> None:
        wait_until(lambda: self.read().count(words) >= times, what=lambda: f"{words!r} in:\n{self.read()}")

    def read(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def settings(command: CommandLine) -> Settings:
    return Settings(command)


@pytest.fixture
def agent(command: CommandLine, settings: Settings) -> Iterator[Terminal]:
    """An agent with an embedded server of its own, as a person starts it in a window."""
    settings.write("limit = 40")
    with on_terminal(command, "start") as terminal:
        settings.wait_for(READY)
        yield terminal


def test_signals_under_fifty_runs_lose_none_and_change_what_they_say(
    command: CommandLine, settings: Settings, agent: Terminal, tmp_path: Path
) -> None:
    """A broken file changes nothing; a higher limit lets the waiting runs start; the log file is opened again.

    HUP stops the agent once the window is closed.
    """
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    os.mkfifo(gate)
    script = f"echo $FLOWHERD_FLOW_RUN_ID >> {begun}; read x < {gate}"
    command("register", "patient", "--command", "--", "sh", "-c", script)
    with command.client() as client:
        (flow,) = client.flows.find("patient")
        run_ids = [client.runs.create(flow.id, parameters={}) for _ in range(RUNS)]

    def started() -> list[str]:
        return begun.read_text().split() if begun.exists() else []

    wait_until(lambda: len(started()) == 40, what=lambda: f"{len(started())} of 40 runs have begun")
    settings.write("limit = 'many'")
    agent.send_signal(signal.SIGHUP)
    settings.wait_for("all settings stay as they were: agent.limit")
    assert "agent.limit = 'many' from file" in command("reload", code=2).stderr

    agent.send_signal(signal.SIGUSR1)
    settings.wait_for("State: thread signals:")
    state = [line.partition("State: ")[2] for line in settings.read().splitlines() if "State: " in line]
    assert "State: agent agent: well; 40 run(s), limit 40" in settings.read()
    assert "claiming: the limit is reached" in state
    assert len([line for line in state if line.startswith("run id ")]) == 40
    assert {"courier", "watcher", "MainThread"} <= {line.split()[1].rstrip(":") for line in state if "thread " in line}

    settings.log.rename(tmp_path / "rotated.log")
    agent.send_signal(signal.SIGUSR2)
    settings.wait_for("opened the log file")
    rotated = (tmp_path / "rotated.log").read_text()

    settings.write("limit = 60\nwatch_interval = 2", "[server]\nkeep_finished = 12345")
    for _ in range(20):
        agent.send_signal(signal.SIGHUP)
    settings.wait_for("Changed: agent.limit is 60, was 40")
    settings.wait_for("Needs a restart: agent.watch_interval is 2.0, was 0.5")
    wait_until(lambda: len(started()) == RUNS, what=lambda: f"{len(started())} of {RUNS} runs have begun")
    agent.read_until(lambda raw: "Changed: server.keep_finished is 12345.0" in raw)
    answer = json.loads(command("reload", "--json").stdout)
    assert [change["setting"] for change in answer["reload"]["needs_restart"]] == ["agent.watch_interval"]
    assert answer["pid"] == agent.pid

    fd = os.open(gate, os.O_RDWR)
    os.write(fd, b"\n" * RUNS)
    ends = command.wait_for_ends(run_ids)
    os.close(fd)
    assert Counter(ends[run_id]["state"] for run_id in run_ids) == {"Success": RUNS}
    assert sorted(started()) == sorted(run_ids), "each once"
    assert (tmp_path / "rotated.log").read_text() == rotated, "nothing is written to the file that was moved away"
    assert agent.hang_up() == 0
    assert "Stopped LocalAgent" in settings.read()


def test_reloading_says_what_to_do_when_there_is_nothing_to_reload(command: CommandLine) -> None:
    assert "no agent 'agent' runs on" in command("reload", code=3).stderr
    assert "start it: `flowherd server`" in command("reload", "--server", code=3).stderr
    assert "leave out what names an agent" in command("reload", "--server", "-n", "x", code=2).stderr

"""An agent under a real supervisord: installed by `flowherd install`, restarted while a flow is running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.commands import CommandLine, background
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

MAIN = """
[unix_http_server]
file={place}/supervisor.sock

[supervisord]
logfile={place}/supervisord.log
pidfile={place}/supervisord.pid
childlogdir={place}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{place}/supervisor.sock

[include]
files = {place}/flowherd.conf
"""


@dataclass(frozen=True)
class Supervisord:
    place: Path

    @property
    def url(self) -> str:
        return f"unix://{self.place}/supervisor.sock"

    def control(self, *words: str) -> str:
        """Run supervisorctl and return its output. Its exit code is ignored: it is not 0 while a program is down."""
        argv = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(self.place / "supervisord.conf"), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stdout

    def pid(self) -> int:
        text = self.control("pid", "flowherd").strip()
        return int(text) if text.isdigit() else 0


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    return CommandLine(home, {"FLOWHERD__SERVER__TOKEN": "the-token"})


@pytest.fixture
def server(command: CommandLine) -> Iterator[None]:
    with background(command, "server", "--port", "0", until="ready at"):
        yield


@pytest.fixture
def supervisord(command: CommandLine, server: None, tmp_path: Path) -> Iterator[Supervisord]:
    """supervisord with the section that `flowherd install supervisord` printed, and the token in a 0600 file."""
    # The path of the socket must be short: sun_path has room for 108 bytes (unix(7)).
    place = tmp_path / "s"
    place.mkdir()
    token = place / "token"
    token.touch(mode=0o600)
    token.write_text("the-token\n")
    section = command(
        "install", "supervisord", "--name", "worker", "--home", str(command.home), "--token-file", str(token)
    ).stdout
    assert "the-token" not in section
    (place / "flowherd.conf").write_text(section)
    (place / "supervisord.conf").write_text(MAIN.format(place=place))
    argv = [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(place / "supervisord.conf")]
    env = {name: value for name, value in os.environ.items() if not name.startswith("FLOWHERD_HOME")}
    with (place / "out").open("wb") as out:
        process = subprocess.Popen(argv, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield Supervisord(place)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.timeout(180)
def test_a_restart_by_supervisord_loses_no_run_and_no_line(
    command: CommandLine, supervisord: Supervisord, tmp_path: Path
) -> None:
    half, go = tmp_path / "half", tmp_path / "go"
    script = f"echo before; touch {half}; while [ ! -e {go} ]; do sleep 0.05; done; echo after"
    command("register", "patient", "--command", "--", "sh", "-c", script)
    wait_until(lambda: command("status", "--supervisor-url", supervisord.url, code=None).returncode == 0)
    run_id = command.run("patient")
    wait_until(half.exists, what=lambda: supervisord.control("tail", "flowherd"))
    before = supervisord.pid()
    (command.home / "config.toml").write_text("[agent]\nlimit = 7\n")
    for name, words in (("HUP", "Changed: agent.limit is 7"), ("USR1", "State: agent worker"), ("USR2", "SIGUSR2:")):
        assert supervisord.control("signal", name, "flowherd") == "flowherd: signalled\n"
        wait_until(lambda: words in supervisord.control("tail", "-20000", "flowherd"), every_s=0.1)  # noqa: B023
    assert supervisord.pid() == before, "which these signals ended once"
    assert "flowherd: started" in supervisord.control("restart", "flowherd")
    after = wait_until(supervisord.pid)
    assert after != before
    go.touch()
    ends = command.wait_for_ends([run_id])
    assert (ends[run_id]["state"], ends[run_id]["agent"]) == ("Success", "worker")
    assert command.lines(run_id) == ["before", "after"]
    argv = Path(f"/proc/{after}/cmdline").read_bytes().decode()
    assert "the-token" not in argv


@pytest.mark.timeout(180)
def test_flowherd_restart_goes_through_supervisord_and_leaves_the_runs_alone(
    command: CommandLine, supervisord: Supervisord, tmp_path: Path
) -> None:
    """Also if the agent's settings say that a stop ends its runs."""
    (command.home / "config.toml").write_text('[agent]\non_stop = "cancel"\n')
    supervisord.control("restart", "flowherd")
    half, go = tmp_path / "half", tmp_path / "go"
    script = f"echo before; touch {half}; while [ ! -e {go} ]; do sleep 0.05; done; echo after"
    command("register", "patient", "--command", "--", "sh", "-c", script)
    run_id = command.run("patient")
    wait_until(half.exists, what=lambda: supervisord.control("tail", "flowherd"))
    before = supervisord.pid()
    facts = command.json("restart", "-n", "worker", "--supervisor-url", supervisord.url)
    assert facts["pid"] == supervisord.pid() != before
    go.touch()
    ends = command.wait_for_ends([run_id])
    assert ends[run_id]["state"] == "Success"
    assert command.lines(run_id) == ["before", "after"]

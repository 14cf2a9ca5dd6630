"""An agent under a real supervisord: installed by `flowherd install`, restarted while a flow is running."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import CommandLine, background
from tests.support.supervisord import MAIN, Supervisord, running_supervisord
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


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
        "install",
        "supervisord",
        "--name",
        "worker",
        "--home",
        str(command.home),
        "--token-file",
        str(token),
        "--stdout-logfile",
        str(place / "worker.log"),
    ).stdout
    assert "the-token" not in section
    (place / "flowherd.conf").write_text(section)
    with running_supervisord(place, MAIN.format(place=place)) as supervisord:
        yield supervisord


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

"""What an agent may not signal is named in the run's state and log, by `explain`, and by `doctor` until it is gone."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flowherd.host.store.survivors import Survivor, living_survivors
from flowherd_runner.contract import identity
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.unprivileged import (
    AS_NOBODY,
    NOBODY,
    needs_compiler,
    needs_root,
    needs_setpriv,
    reachable_directory,
    set_uid_program,
)
from tests.support.waiting import wait_until

pytestmark = [
    needs_root,
    needs_setpriv,
    needs_compiler,
    pytest.mark.usefixtures("no_process_left"),
    pytest.mark.slow,
    pytest.mark.timeout(120),
]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that `nobody` can reach."""
    with reachable_directory() as directory:
        yield directory


@pytest.fixture
def command(place: Path) -> Iterator[CommandLine]:
    """flowherd as `nobody`, with a home of its own; what survives its runs is killed at the end."""
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    environment = {"FLOWHERD__SERVER__BIND_PORT": "0", "HOME": str(home)}
    yield CommandLine(home, environment, AS_NOBODY)
    for one in living_survivors(home / "agents" / "agent"):
        os.kill(one.pid, signal.SIGKILL)


@pytest.fixture
def agent(command: CommandLine) -> Iterator[Background]:
    with background(command, "start", "--on-stop", "detach", until=READY) as going:
        yield going


def survivor(command: CommandLine) -> Survivor:
    """The one process that the agent remembers."""
    (one,) = wait_until(lambda: living_survivors(command.home / "agents" / "agent"))
    return one


def names_of_processes(run_id: str) -> list[str]:
    """The names of the run's processes, which root can tell by their environment."""
    return [identity.name_of(pid) for pid in identity.members_by_variable(run_id, psutil.pids())]


def check(command: CommandLine, name: str) -> dict[str, str]:
    found = command.json("doctor")["checks"]
    return next(one for one in found if one["check"] == name)


def test_a_cancelled_set_uid_program_is_said_to_live_on_until_it_is_gone(
    command: CommandLine, agent: Background, place: Path
) -> None:
    command("register", "su", "--grace", "0.3s", "--command", "--", str(set_uid_program(place)), "sleep", "300")
    run_id = command.run("su")
    wait_until(lambda: command.runs()[run_id]["state"] == "Running", every_s=0.3)
    command("cancel", run_id)
    ended = command.wait_for_ends([run_id])[run_id]
    one = survivor(command)
    named = f"may not signal it: sleep (pid {one.pid}, user root)."
    assert (ended["state"], one.flow_run_id, one.refused) == ("Cancelled", run_id, True)
    assert named in ended["message"]
    assert "everything" not in ended["message"]
    assert any(named in line for line in command.lines(run_id, "flowherd"))
    assert not any("No process was left" in line for line in command.lines(run_id, "flowherd"))
    assert named in agent.text()
    assert f"sleep (pid {one.pid}, user root)" in command("explain", run_id).stdout.splitlines()[-1]
    found = check(command, "survivors")
    assert found["grade"] == "warn"
    assert f"sleep (pid {one.pid}, user root)" in found["detail"]
    os.kill(one.pid, signal.SIGKILL)
    wait_until(lambda: not one.alive)
    assert check(command, "survivors")["grade"] == "ok"
    assert command.json("explain", run_id)["survivors"] == []


def test_a_time_limit_that_cannot_be_enforced_ends_the_run_with_the_process_named(
    command: CommandLine, agent: Background, place: Path
) -> None:
    program = str(set_uid_program(place))
    command("register", "su", "--timeout", "1s", "--grace", "0.3s", "--command", "--", program, "sleep", "300")
    command("run", "su", "--wait", code=1, timeout_s=30)
    (ended,) = command.runs().values()
    one = survivor(command)
    assert ended["state"] == "Failed"
    assert "its limit of 1 s" in ended["message"]
    assert f"sleep (pid {one.pid}, user root)" in ended["message"]
    lines = command.lines(ended["id"], "flowherd")
    assert any("limit of 1 s; the flow process sleep" in line and "may not be signalled" in line for line in lines)


@pytest.mark.parametrize("line", ["exec {} sleep 300", "{} sleep 300; true"], ids=["flow process", "its child"])
def test_a_survivor_of_a_run_whose_runner_was_killed_is_found_by_the_next_agent(
    command: CommandLine, place: Path, line: str
) -> None:
    program = set_uid_program(place)
    with background(command, "server", until="ready at"):
        with background(command, "start", "--on-stop", "detach", until=READY) as first:
            command("register", "su", "--command", "--", "sh", "-c", line.format(program))
            run_id = command.run("su")
            wait_until(lambda: "sleep" in names_of_processes(run_id))
            directory = command.home / "agents" / "agent" / "runs" / run_id
            first.kill()
        runner = int((directory / "started").read_text().partition('"pid": ')[2].partition(",")[0])
        os.kill(runner, signal.SIGKILL)
        with background(command, "start", "--on-stop", "detach", until=READY):
            ended = command.wait_for_ends([run_id])[run_id]
            one = survivor(command)
            assert ended["state"] == "Failed"
            assert "were killed" not in ended["message"]
            assert f"may not signal it: sleep (pid {one.pid}, user root)." in ended["message"]
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

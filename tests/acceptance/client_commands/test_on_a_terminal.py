"""`explain` and `doctor` on a terminal: one screen, and everything with --all; `logs` where there are no lines."""

from __future__ import annotations

import pytest

from tests.acceptance.client_commands.helpers import FakeAgent, register
from tests.support.commands import CommandLine
from tests.support.terminal import screen

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def test_a_story_fits_the_screen_and_all_of_it_is_there_with_all(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "f" * 200)
    run_id = command.run("f" * 200, "--run-name", "n" * 200)
    agent.log(run_id, *[("flowherd", f"notice {number} {'with words ' * 20}") for number in range(40)])
    agent.state(run_id, "Running")
    agent.state(run_id, "Failed", "all the words " * 200, reason="exited", grade="proven")
    lines = screen(command, "explain", run_id)
    assert len(lines) <= 22 and max(map(len, lines)) <= 80
    assert "Reason: exited, proven." in lines and lines[-1].endswith("--all")
    whole = " ".join(screen(command, "explain", run_id, "--all"))
    assert all(f"notice {number} " in whole for number in range(40))
    assert "notice 39" in command("explain", run_id).stdout


def test_what_the_doctor_finds_fits_the_screen(command: CommandLine) -> None:
    lines = screen(command, "doctor")
    assert len(lines) <= 22 and max(map(len, lines)) <= 80
    assert " ok, " in lines[-1] and "--all" in lines[-1]
    assert any(line.startswith("ok    ") and "backend" in line for line in lines)
    assert len(screen(command, "doctor", "--all")) > len(lines)


def test_a_log_without_lines_says_how_the_run_stands(command: CommandLine, agent: FakeAgent) -> None:
    register(command, "silent")
    command.run("silent", "--run-name", "hush")
    (line,) = screen(command, "logs", "hush", width=120)
    assert line.startswith("no lines to show: hush is Scheduled; `flowherd explain")
    assert command("logs", "hush").stderr == ""

"""`flowherd run --here`: a flow once in this terminal, with its input, without agent and server."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import FLOWHERD, CommandLine
from tests.support.server import ServerProcess
from tests.support.terminal import on_terminal

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

SOURCE = """
import logging, os, sys
def greet(name, times=1):
    logging.getLogger("greeter").info("greeting %s", name)
    answer = input("again? ")
    print("hello", name, times, answer, os.environ["MOOD"], os.getcwd(), os.environ["FLOWHERD_FLOW_NAME"])
def fail(): raise ValueError("not today")
def debug(secret):
    breakpoint()
    print("went on")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def with_input(command: CommandLine, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*FLOWHERD, "run", "--here", *arguments],
        env=command.environment(),
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_registered_flow_runs_here_with_its_environment_and_input(command: CommandLine, place: Path) -> None:
    options = ["-e", "MOOD=fine", "-p", "name=Ada", "--isolation", "private"]
    command("register", "greeter", "--python", "here.py:greet", *options)
    done = with_input(command, "yes\n", "greeter", "-p", "times=2")
    assert done.stdout == f"again? hello Ada 2 yes fine {place} greeter\n"
    assert "INFO      greeter: greeting Ada" in done.stderr
    assert "runs here: without limits, not isolated although its level is private, and recorded nowhere" in done.stderr
    assert done.stderr.splitlines()[-1] == "greeter: Success"
    assert done.returncode == 0
    assert not [run for run in command.json("ps", "--all") if run["flow"] == "greeter"]


def test_failures_are_told_by_exit_code_and_last_line(command: CommandLine, place: Path) -> None:
    command("register", "three", "-p", "who=me", "--command", "--", "sh", "-c", "read line; echo {who} $line; exit 3")
    done = with_input(command, "typed\n", "three", "-p", "who=you")
    assert (done.stdout, done.returncode) == ("you typed\n", 1)
    assert done.stderr.splitlines()[-1] == "three: Failed: exit code 3"
    done = with_input(command, "", "here.py:fail")
    assert (done.stderr.splitlines()[-2], done.returncode) == ("ValueError: not today", 1)
    assert "runner" not in done.stderr
    done = with_input(command, "", "no_such_module:fail")
    assert "not started: no module named no_such_module" in done.stderr and done.returncode == 1
    command("register", "killed", "--command", "--", "sh", "-c", "kill -9 $$")
    assert with_input(command, "", "killed").stderr.splitlines()[-1] == "killed: Failed: killed by signal 9"


def test_without_a_server_what_was_registered_last_runs(
    own_server: ServerProcess, own_command: CommandLine, place: Path
) -> None:
    own_command("register", "one/..", "--project", "a.b", "--command", "--", "echo", "first")
    own_command("register", "one/..", "--project", "a.b", "--command", "--", "echo", "second")
    own_command("register", "gone", "--command", "--", "true")
    own_command("unregister", "gone")
    own_server.stop()
    assert with_input(own_command, "", "gone").returncode == 3
    done = with_input(own_command, "", "one/..")
    assert done.stdout == "second\n" and "as it was last registered" in done.stderr
    assert with_input(own_command, "", "one/..", "--project", "other").returncode == 3
    assert with_input(own_command, "", "here.py:fail").returncode == 1


def test_the_debugger_works_and_an_interrupt_ends_the_flow(tmp_path: Path, place: Path) -> None:
    command = CommandLine(tmp_path / "home")
    with on_terminal(command, "run", "here.py:debug", "-p", "secret=41", "--here") as screen:
        screen.read_until(lambda raw: "(Pdb) " in raw)
        screen.write("p secret + 1\n")
        screen.read_until(lambda raw: "\n42\r\n" in raw)
        screen.write("c\n")
        assert screen.end() == 0
        assert "went on" in screen.text and screen.text.endswith("Success\n")
    (place / "slow.py").write_text("import time\nprint('begun')\ntime.sleep(1000)\n")
    with on_terminal(command, "run", "slow.py", "--here") as screen:
        screen.read_until(lambda raw: "begun" in raw)
        screen.write("\x03")
        assert screen.end() == 128 + signal.SIGINT
        assert "KeyboardInterrupt" in screen.text and screen.text.endswith("interrupted\n")


def test_what_does_not_go_together_is_refused(command: CommandLine, place: Path) -> None:
    for option in ("--wait", "--json", "--at=2030-01-01", "--label=x"):
        assert f"--here excludes {option.partition('=')[0]}" in command("run", "x", "--here", option, code=2).stderr
    assert "no parameter 'x'" in command("run", "here.py:fail", "--here", "-p", "x=1", code=2).stderr
    assert "no flow 'nothing'" in command("run", "nothing", "--here", code=4).stderr

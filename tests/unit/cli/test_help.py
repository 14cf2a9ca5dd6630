"""Every command has a help text with an example, and a wrong command line says where to find it."""

from __future__ import annotations

import contextlib
import io
import subprocess

import pytest

from flowherd.cli.main import run

COMMANDS = [
    ["start"],
    ["server"],
    ["server", "backup"],
    ["server", "check"],
    ["register"],
    ["run"],
    ["ps"],
    ["logs"],
    ["cancel"],
    ["poke"],
    ["status"],
    ["pause"],
    ["resume"],
    ["drain"],
    ["restart"],
    ["explain"],
    ["doctor"],
    ["config"],
    ["demo"],
    ["install", "supervisord"],
    ["install", "systemd"],
]


def flowherd(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Carry out a command line in this process; tests/acceptance/test_cli_help.py starts the real one."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_explains_itself_with_an_example(command: list[str]) -> None:
    done = flowherd(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert f"flowherd {command[0]}" in done.stdout


def test_the_help_lists_every_command() -> None:
    done = flowherd("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command[0]} " in done.stdout


def test_no_arguments_show_the_help() -> None:
    done = flowherd()
    assert "Usage" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_wrong_command_line_is_one_line_that_says_where_to_look() -> None:
    for arguments in (["rnu"], ["run"], ["ps", "--limit", "none"], ["logs", "--nonsense"]):
        done = flowherd(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "--help" in done.stderr


def test_the_version_is_told() -> None:
    import flowherd as package

    assert flowherd("--version").stdout == f"flowherd {package.__version__}\n"

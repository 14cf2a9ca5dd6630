"""Every command has a help text with an example, and a wrong command line says where to find it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
from importlib.metadata import version
from typing import Any

import pytest
import typer

from flowherd.cli import help_screen, plain_parameters
from flowherd.cli.commands import COMMANDS as LINES
from flowherd.cli.main import run
from flowherd.cli.program import make_app

TYPER = tuple(int(part) for part in version("typer").split(".")[:2])
COMMANDS = [
    ["start"],
    ["server"],
    ["server", "backup"],
    ["server", "check"],
    ["register"],
    ["unregister"],
    ["apply"],
    ["run"],
    ["ps"],
    ["top"],
    ["flows"],
    ["flow"],
    ["schedules"],
    ["agents"],
    ["logs"],
    ["wait"],
    ["cancel"],
    ["schedule", "ls"],
    ["schedule", "next"],
    ["retry"],
    ["delete", "run"],
    ["delete", "flow"],
    ["poke"],
    ["status"],
    ["pause"],
    ["resume"],
    ["drain"],
    ["restart"],
    ["reload"],
    ["explain"],
    ["doctor"],
    ["config"],
    ["demo"],
    ["notify", "list"],
    ["notify", "test"],
    ["import", "crontab"],
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
def test_each_command_explains_itself_with_an_example_and_without_types_of_the_source(command: list[str]) -> None:
    """A flag takes no <bool>, a number has no [x>=1], and the usage line has no braces."""
    done = flowherd(*command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert f"flowherd {command[0]}" in done.stdout
    if TYPER >= (0, 28):  # older releases of Typer draw the help in their own way
        assert not re.search(r"<\w+(\[\w+\])?>|\[x|<=|\{|\[\[", done.stdout), done.stdout


def test_the_help_lists_every_command() -> None:
    done = flowherd("--help")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command[0]} " in done.stdout


def test_no_arguments_show_the_help_and_are_no_success() -> None:
    done = flowherd()
    assert (done.returncode, done.stderr) == (2, "")
    assert words(done.stdout) == words(flowherd("--help").stdout)


def test_a_command_whose_reader_has_ended_exits_as_the_shell_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in `flowherd ... | head -1`: 128 + SIGPIPE, and not the 1 of a command that could not do its work."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", closefd=False) as out:
        monkeypatch.setattr("sys.stdout", out)
        assert run(["schedule", "next", "--cron", "@daily"]) == 141
    os.close(writer)


def test_a_wrong_command_line_is_one_line_that_says_where_to_look() -> None:
    for arguments in (["rnu"], ["run"], ["ps", "--limit", "none"], ["ps", "--limit", "0"], ["logs", "--nonsense"]):
        done = flowherd(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "--help" in done.stderr


def test_the_version_is_told() -> None:
    import flowherd as package

    assert flowherd("--version").stdout == f"flowherd {package.__version__}\n"


def words(screen: str) -> list[str]:
    """Return the words of a help text, without frames."""
    return re.sub(r"[╭╮╰╯│─]|\x1b\[[0-9;]*m", " ", screen).split()


def test_the_screen_of_the_program_says_what_typer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    program: Any = typer.main.get_command(make_app())
    plain_parameters.ease(program)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        program(["--help"], standalone_mode=False, prog_name="flowherd")
    for width in ("60", "80", "200"):
        monkeypatch.setenv("COLUMNS", width)
        screen = help_screen.help_screen()
        assert {len(line) for line in screen.splitlines()} == {int(width)}
        assert words(screen) == words(out.getvalue())
    for name, (_, line) in LINES.items():
        first = program.commands[name].help.split("\n\n")[0]
        assert " ".join(first.split()) == line


def test_a_terminal_gets_the_screen_in_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain = help_screen.help_screen()
    with contextlib.redirect_stdout(Terminal()):
        coloured = help_screen.help_screen()
    assert "\x1b[1;36m" in coloured and re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain


def test_outside_start_whose_letters_are_prefects_a_letter_means_one_thing() -> None:
    """-p is a parameter and -f is to follow."""
    program: Any = typer.main.get_command(make_app())
    commands = {name: command for name, command in program.commands.items() if name != "start"}
    nested = [inner for command in commands.values() for inner in getattr(command, "commands", {}).values()]
    meanings = {
        (letter, option.name)
        for command in (*commands.values(), *nested)
        for option in command.params
        for letter in ("-p", "-f")
        if letter in option.opts
    }
    assert meanings == {("-p", "parameter"), ("-f", "follow")}

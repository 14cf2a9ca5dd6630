"""Every command has a help text with an example, shown quickly and readable on a narrow terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

COMMANDS = [
    ["start"],
    ["server"],
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
#: What only a command that does something needs.
HEAVY = {
    "pydantic",
    "pydantic_settings",
    "requests",
    "psutil",
    "uvicorn",
    "sqlalchemy",
    "graphql",
    "loguru",
    "supervisor",
}


def flowherd(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowherd", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


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


def test_the_help_loads_nothing_heavy() -> None:
    """What makes --help quick: modules that only a working command needs are not imported for it."""
    code = (
        "import sys\nfrom flowherd.cli.main import run\n"
        f"run(['--help'])\nprint(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


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

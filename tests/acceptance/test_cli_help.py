"""The real command is there at once: it imports nothing that it does not need for what it was asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.http_server import Answer, canned_server

#: What makes the start of a program slow, with all that only other commands, agents and servers need.
HEAVY = {
    *(
        "pydantic",
        "pydantic_core",
        "requests",
        "urllib3",
        "asyncio",
        "psutil",
        "loguru",
        "rich",
        "textual",
        "uvicorn",
        "starlette",
    ),
    *("sqlalchemy", "graphql", "supervisor", "flowherd.agent", "flowherd.host"),
}
#: What the help of the program does without, and no command that asks a server can.
FOR_COMMANDS = {"typer", "click", "flowherd.config", "json", "dataclasses", "inspect", "http.client", "email", "ssl"}


def loaded(modules: set[str], *arguments: str, **environ: str) -> tuple[str, list[str]]:
    """Carry out a command line in a new process; return its output, and which of the modules it has imported."""
    code = (
        "import sys\nfrom flowherd.cli.main import run\n"
        f"assert run({list(arguments)!r}) == 0\nprint(sorted({modules!r} & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environ or None)
    return done.stdout, done.stderr.strip()[1:-1].replace("'", "").split(", ") if done.stderr != "[]\n" else []


def test_the_help_loads_nothing_heavy() -> None:
    text, found = loaded(HEAVY | FOR_COMMANDS, "--help", PYTHONIOENCODING="utf-8")
    assert "╭─ Commands" in text and found == []


def test_listing_runs_loads_nothing_heavy(tmp_path: Path) -> None:
    with canned_server() as server:
        server.answers = [Answer(body=b'{"data": {"hello": "", "flow_run": [], "agent": []}}')]
        text, found = loaded(HEAVY, "ps", "--api", server.url, "--limit", "5", HOME=str(tmp_path))
    assert text.startswith("ID ") and found == []


def test_the_program_shows_the_help_and_says_what_is_wrong() -> None:
    command = [sys.executable, "-m", "flowherd"]
    shown = subprocess.run([*command, "start", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "flowherd start" in shown.stdout
    wrong = subprocess.run([*command, "rnu"], capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ") and "--help" in wrong.stderr
    assert "did you mean" in wrong.stderr.lower()

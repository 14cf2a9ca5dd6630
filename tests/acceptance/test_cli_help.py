"""The real command shows its help at once: it imports nothing that only a working command needs."""

from __future__ import annotations

import subprocess
import sys

#: What makes the start of a program slow.
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


def test_the_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom flowherd.cli.main import run\n"
        f"run(['--help'])\nprint(sorted({HEAVY!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "[]"


def test_the_program_shows_the_help_and_says_what_is_wrong() -> None:
    command = [sys.executable, "-m", "flowherd"]
    shown = subprocess.run([*command, "start", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "flowherd start" in shown.stdout
    wrong = subprocess.run([*command, "rnu"], capture_output=True, text=True, timeout=60, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("error: ") and "--help" in wrong.stderr

"""Runs the commands of docs/tutorial/first-flow-run.md and checks the output that the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.support.commands import CommandLine

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first-flow-run.md").read_text(encoding="utf-8")
#: What the page calls the directory of everything it makes.
PLACE = "/tmp/herd"
#: Parts of a line that differ from one execution to the next.
CHANGING = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+(\.\d+)?")

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow, pytest.mark.timeout(300)]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def normalised(line: str) -> str:
    return " ".join(CHANGING.sub("#", line).split())


def test_the_commands_work_and_print_what_the_page_shows(tmp_path: Path) -> None:
    """The first block installs the checkout; an environment with this checkout's code stands in for it."""
    place = tmp_path / "herd"
    venv.create(place)
    program = place / "bin" / "flowherd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowherd "$@"\n')
    program.chmod(0o755)
    install, *commands = blocks("sh")
    assert install.startswith("python3 -m venv ")
    script = "\n".join(commands).replace(PLACE, str(place))
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=CommandLine(tmp_path, {"FLOWHERD__SERVER__BIND_PORT": "0"}).environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    printed = {normalised(line) for line in done.stdout.replace(str(place), PLACE).splitlines()}
    shown = [line for block in blocks("text") for line in block.splitlines()]
    assert len(shown) > 10
    assert [line for line in shown if normalised(line) not in printed] == [], done.stdout
    assert "command not found" not in done.stdout
    assert not place.exists()

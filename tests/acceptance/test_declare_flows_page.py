"""Runs the commands of docs/how-to/declare-flows.md and checks the output that the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.commands import CommandLine
from tests.support.server import running_server

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "declare-flows.md").read_text(encoding="utf-8")

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def test_the_commands_work_and_print_what_the_page_shows(tmp_path: Path) -> None:
    blocks = re.findall(r"```(toml|sh|text)\n(.*?)```", PAGE, flags=re.DOTALL)
    assert [kind for kind, _ in blocks] == ["toml", *["sh", "text"] * 4]
    (tmp_path / "flows.toml").write_text(blocks[0][1])
    program = tmp_path / "flowherd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowherd "$@"\n')
    program.chmod(0o755)
    with running_server(tmp_path / "data") as server:
        environ = CommandLine(server.home).environment()
        for (_, script), (_, shown) in zip(blocks[1::2], blocks[2::2], strict=True):
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=tmp_path,
                env={**environ, "PATH": f"{tmp_path}:{environ['PATH']}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
            printed = done.stdout.splitlines()
            assert done.returncode == 0, done.stdout
            assert [line for line in shown.splitlines() if line not in printed] == [], done.stdout

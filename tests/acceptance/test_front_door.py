"""Runs README's two set-up commands and its quickstart, taken from it word for word."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.checkout import copy_checkout
from tests.support.commands import CommandLine, background

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


def shell_blocks() -> list[str]:
    return re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_checkout(tmp_path / "checkout")


def test_ci_runs_the_readmes_test_command_and_lets_no_peer_be_missing() -> None:
    command = shell_blocks()[1].strip()
    assert "\n" not in command
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert "export FLOWHERD_REQUIRE_PEERS=1" in lines[: lines.index(command)]


@pytest.mark.timeout(600)
def test_the_first_command_goes_from_nothing_to_a_demo_that_leaves_nothing_behind(
    checkout: Path, tmp_path: Path
) -> None:
    command = shell_blocks()[0].strip()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    # The virtual environment that runs these tests must not help.
    path = os.pathsep.join(p for p in os.environ["PATH"].split(os.pathsep) if Path(p) != Path(sys.executable).parent)
    env = {**os.environ, "TMPDIR": str(temporary), "PATH": path}
    done = subprocess.run(
        ["sh", "-c", command], cwd=checkout, env=env, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("as it should") == 6
    assert list(temporary.iterdir()) == []


def test_the_quickstart_runs_as_it_stands(tmp_path: Path) -> None:
    """A shell runs the block as pasted, without flowherd on PATH before it; then the line that stops the agent."""
    home = tmp_path / "home"
    home.mkdir()
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries / "activate").write_text(f"PATH={binaries}:$PATH\n")
    program = binaries / "flowherd"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m flowherd "$@"\n')
    program.chmod(0o755)
    env = CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"}).environment()
    env["PATH"] = os.pathsep.join(p for p in env["PATH"].split(os.pathsep) if not (Path(p) / "flowherd").exists())
    stop = "flowherd drain --wait"
    assert f"`{stop}`" in README
    done = subprocess.run(
        ["sh", "-ec", f"{shell_blocks()[2]}\n{stop}\nwait"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hello world" in done.stdout
    assert "Success" in done.stdout


def test_the_settings_table_names_only_settings_that_exist() -> None:
    from flowherd.config.catalogue import SETTINGS

    table = README.split("| setting |")[1].split("\n\n")[0]
    for row in table.splitlines()[2:]:
        for name in re.findall(r"`([a-z_.*]+)`", row.split("|")[1]):
            assert name in SETTINGS or name.removesuffix("*") in {leaf.rpartition(".")[0] + "." for leaf in SETTINGS}, (
                name
            )


def test_a_default_flow_carries_this_hosts_label(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    command = CommandLine(home)
    with background(command, "server", "--port", "0", until="ready at"):
        assert command.json("register", "x", "--command", "--", "true")["labels"] == [socket.gethostname()]

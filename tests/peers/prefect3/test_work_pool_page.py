"""The commands of docs/how-to/serve-a-work-pool.md, with a real Prefect 3 server."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.workspace import TERMINAL
from tests.support.commands import READY, CommandLine, background
from tests.support.pages import DOCS, blocks
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = DOCS / "how-to" / "serve-a-work-pool.md"
#: What stands on the page for the reader's server and Prefect.
ADDRESS, INTERPRETER = "http://10.0.0.5:4200/api", "/opt/prefect-3"


def arguments(commands: str, prefect: PrefectServer) -> list[str]:
    """Return the arguments of a command of the page, with the test's server and Prefect."""
    assert ADDRESS in commands
    here = commands.replace(ADDRESS, prefect.api).replace(INTERPRETER, str(required_installation(PREFECT_3).directory))
    program, *words = shlex.split(here.replace("\\\n", " "))
    assert program == "flowherd"
    return words


def test_the_pages_commands_check_the_set_up_and_serve_the_pool(prefect: PrefectServer, tmp_path: Path) -> None:
    start, doctor = (arguments(block.commands, prefect) for block in blocks(PAGE))
    (tmp_path / "flows.py").write_text("from prefect import flow\n\n@flow\ndef main(): pass\n")
    command = CommandLine(tmp_path / "home", {"HOME": str(tmp_path)})
    assert "machines" in command(*doctor).stdout
    with background(command, *start, until=READY) as agent:
        steps = [{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}]
        run = prefect.add_run(prefect.add_deployment("machines", pull_steps=steps))
        wait_until(lambda: prefect.state(run) in TERMINAL, timeout_s=60, what=lambda: prefect.story(run))
    # The agent has delivered the rest of the run's log before it ended.
    assert prefect.state(run) == "COMPLETED", f"{prefect.story(run)}\n{agent.text()}"

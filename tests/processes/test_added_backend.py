"""The backend of docs/how-to/add-a-backend.md, installed as a package and named by a setting, runs flow runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.states import RunState
from tests.support.agents import going, wait_for_end
from tests.support.commands import READY, CommandLine, background
from tests.support.packages import install_backend
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-backend.md"


def block(language: str, beginning: str) -> str:
    """Return the code block of the page that begins so."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (found,) = (text for text in blocks if text.startswith(beginning))
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with the installed package of the page."""
    entry = re.search(r'^(\S+) = "(command_file:\w+)"$', block("toml", "[project]"), re.MULTILINE)
    assert entry is not None
    site = tmp_path / "site"
    install_backend(site, entry[1], entry[2], "command_file", block("python", "from __future__"))
    return site


def test_an_agent_takes_its_runs_from_it(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    jobs = tmp_path / "jobs"
    jobs.write_text(f"echo first; touch {tmp_path}/done\nexit 3\n")
    monkeypatch.setenv("COMMAND_FILE", str(jobs))
    config = tmp_path / "config.toml"
    config.write_text(block("toml", "[agent]"))
    agent = LocalAgent(settings=load_settings(config_file=config))
    with going(agent):
        backend = agent.backend
        assert isinstance(backend, MemoryBackend) and backend.address == str(jobs)
        first, second = wait_until(lambda: ended(backend, 2), what="the ends of two runs")
    assert (backend.state(first), backend.state(second)) == (RunState.SUCCESS, RunState.FAILED)
    assert "first" in backend.log(first) and (tmp_path / "done").exists()


def ended(backend: MemoryBackend, count: int) -> list[str]:
    """Return the ids of the runs in the order of their lines, once all of them have ended."""
    ids = list(dict.fromkeys(report.flow_run_id for report in backend.history))
    if len(ids) < count:
        return []
    for run_id in ids:
        wait_for_end(backend, run_id)
    return sorted(ids, key=lambda run_id: backend.state(run_id) is not RunState.SUCCESS)


def test_the_command_line_starts_an_agent_with_it_and_no_server(site: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "config.toml").write_text(block("toml", "[agent]"))
    jobs = tmp_path / "jobs"
    jobs.write_text("echo hello from line 1\n")
    command = CommandLine(home, {"PYTHONPATH": str(site), "COMMAND_FILE": str(jobs)})
    assert f"{jobs} answers" in command("doctor", code=None).stdout
    with background(command, "start", "--show-flow-logs", until=READY) as agent:
        wait_until(lambda: "hello from line 1" in agent.text(), what=lambda: agent.text())
        assert "embedded server" not in agent.text() and not (home / "server.json").exists()
        assert agent.stop() == 0

"""What a running agent does with changed settings: which it takes up at once, leaves to a restart, and refuses."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config.reload_report import ReloadReport
from flowherd.values import FlowRun
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


class Home:
    """A home with a settings file, and runs that say what they were given."""

    def __init__(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        self.path = path
        self.backend = MemoryBackend()

    def write(self, text: str) -> None:
        (self.path / "config.toml").write_text(text)

    def run(self, script: str, **given: Any) -> str:
        return self.backend.add_run({"type": "Command", "argv": ["sh", "-c", script]}, **given)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("FLOWHERD_HOME", str(tmp_path / "reloaded"))
    return Home(tmp_path / "reloaded")


def reload(agent: LocalAgent) -> ReloadReport:
    return wait_until(lambda: agent.control.reload, what="the agent's start")("a test")


def changed(report: ReloadReport) -> list[str]:
    return [change.setting for change in report.changed]


def test_runs_get_the_new_settings_from_then_on_and_those_that_go_on_keep_theirs(home: Home, tmp_path: Path) -> None:
    """Limits, variables, label limits and runtimes; what concerns the whole agent is named as needing a restart."""
    out, go = tmp_path / "out", tmp_path / "go"
    home.write("[agent]\nlimit = 1\n[cloud.agent]\nenv_vars = {WORD = 'old'}\n")
    with going(LocalAgent(backend=home.backend, hostname_label=False)) as agent:
        first = home.run(f"echo $WORD >> {out}; read x < {go}; echo $WORD >> {out}")
        os.mkfifo(go)
        wait_until(out.exists)
        second = home.run(f"echo $WORD $MORE >> {out}")
        home.write(
            "[agent]\nlimit = 2\non_stop = 'cancel'\nwatch_interval = 1\nlabel_limits = {db = 3}\n"
            "[cloud.agent]\nenv_vars = {WORD = 'new', MORE = 'more'}\n"
            f"[[runtimes]]\nname = 'here'\ninterpreter = '{sys.executable}'\npreload = ['colorsys']\n"
            "[server]\nkeep_finished = 5\n"
        )
        report = reload(agent)
        names = ["cloud.agent.env_vars", "agent.limit", "agent.label_limits", "agent.on_stop", "runtimes"]
        assert (changed(report), report.refused) == (names, {})
        assert [change.setting for change in report.needs_restart] == ["agent.watch_interval"]
        assert [change.setting for change in report.of_server] == ["server.keep_finished"]
        assert wait_for_end(home.backend, second) == "Success"
        go.write_text("\n")
        assert wait_for_end(home.backend, first) == "Success"
        assert out.read_text().split() == ["old", "new", "more", "old"]
        assert (agent.control.usual_stop, agent.loaded.settings.agent.watch_interval) == ("cancel", 0.5)
        assert agent._own_label_limits.full(()) == {}
        again = reload(agent)
        assert (changed(again), len(again.needs_restart), again.of_server) == ([], 1, [])
        home.write("[runs.isolation]\nlevel = 'private'\nif_missing = 'weaker'\nhide = ['/hidden']\n")
        assert {"runs.isolation.level", "runs.isolation.hide"} <= set(changed(reload(agent)))
        hidden = home.run("true", run_config={"working_dir": "/hidden/place"})
        assert wait_for_end(home.backend, hidden) == "Failed"
        assert "is in /hidden, which is hidden from it" in home.backend.message(hidden)


def test_a_broken_file_changes_nothing_and_a_runtime_that_cannot_serve_is_refused_alone(home: Home) -> None:
    home.write("[agent]\nlimit = 1\n")
    with going(LocalAgent(backend=home.backend, hostname_label=False)) as agent:
        before = agent.loaded
        for text, words in (
            ("[agent]\nlimit = 'many'\n", "agent.limit"),
            ("[agent\n", "config.toml"),
            ("[agent]\nlimits = 5\n", "limits"),
        ):
            home.write(text)
            report = reload(agent)
            assert words in report.refused["settings"]
            assert (agent.loaded, changed(report)) == (before, [])
        home.write("[agent]\nlimit = 7\n[[runtimes]]\nname = 'gone'\ninterpreter = '/no/such/python'\n")
        report = reload(agent)
        assert changed(report) == ["agent.limit"]
        assert "/no/such/python cannot be started" in report.refused["runtimes"]
        assert (agent.limit, agent.loaded.settings.runtimes) == (7, [])
        assert wait_for_end(home.backend, home.run("exit 0")) == "Success"


class OwnLimit(LocalAgent):
    """An agent whose program chooses the limit, and the variables of each run."""

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__(backend=backend, hostname_label=False, limit=3)

    def populate_env_vars(self, flow_run: FlowRun, run_config: Any = None) -> dict[str, str]:
        return {**super().populate_env_vars(flow_run, run_config), "OWN": "own"}


def test_what_a_program_has_chosen_itself_stays(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with going(OwnLimit(home.backend)) as agent:
        home.write("[agent]\nlimit = 9\n[cloud.agent]\nenv_vars = {WORD = 'new'}\n")
        report = reload(agent)
        assert (changed(report), list(report.refused)) == (["cloud.agent.env_vars"], ["agent.limit"])
        assert agent.limit == 3
        wait_for_end(home.backend, home.run(f"echo $WORD $OWN > {out}"))
        assert out.read_text() == "new own\n"
    given = LocalAgent(backend=home.backend, settings=agent.loaded, hostname_label=False)
    with going(given):
        assert "given it its settings" in reload(given).refused["settings"]


def test_a_report_is_readable_by_programs(home: Home) -> None:
    home.write("[runs]\nkeep = 5\n")
    with going(LocalAgent(backend=home.backend, hostname_label=False)) as agent:
        home.write("[runs]\nkeep = 60\nmask = ['PIN']\n[agent]\nshow_flow_logs = true\n")
        answer = json.loads(json.dumps(reload(agent).as_json()))
        assert {"setting": "runs.keep", "from": 5.0, "to": 60.0} in answer["changed"]
        assert len(answer["changed"]) == 3
        assert answer["refused"] == answer["needs_restart"] == []
        run_id = home.run("exit 0")
        wait_for_end(home.backend, run_id)
        runs = agent.loaded.paths.state_dir / "runs"
        wait_until(lambda: any(run_id in path.name for path in runs.iterdir()), what="the kept directory")

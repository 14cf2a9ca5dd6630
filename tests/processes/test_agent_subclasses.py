"""Subclasses of LocalAgent: their overridden methods are called for real runs."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd import Agent, BackendUnavailable, LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.states import RunState
from flowherd.values import FlowRun
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

SHOW = ["sh", "-c", 'echo "$GIVEN $PLACE ${INHERITED-gone} ${FLOW-gone} $(pwd)"']
SLEEP = ["sleep", "120"]


class Choosing(LocalAgent):
    """Overrides what subclasses of Prefect's LocalAgent override."""

    #: How often the name of the run's variables cannot be found out.
    failures = 1
    is_up = False

    def on_startup(self) -> None:
        self.is_up = True

    def populate_env_vars(self, flow_run: FlowRun) -> dict[str, Any]:  # type: ignore[override]  # as in 0.13
        env: dict[str, Any] = super().populate_env_vars(flow_run=flow_run)
        if flow_run.name == "refused":
            raise KeyError("no such secret")
        if flow_run.name == "later" and self.failures:
            self.failures -= 1
            raise BackendUnavailable("the store of secrets is away")
        env["GIVEN"] = f"given to {flow_run.name}"
        env["FLOW"] = None
        del env["PLACE"]
        return env

    def _get_run_config(self, flow_run: FlowRun, run_config_cls: Any) -> Any:
        config = super()._get_run_config(flow_run, run_config_cls)
        config.working_dir = config.working_dir or "/usr"
        return config


@pytest.fixture(scope="module")
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture(scope="module")
def agent(backend: MemoryBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Choosing]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLOWHERD_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("INHERITED", "inherited")
        agent = Choosing(backend=backend, hostname_label=False, env_vars={"INHERITED": None, "PLACE": "agent"})
        with going(agent):
            wait_until(lambda: agent.is_up)
            yield agent


def shown(backend: MemoryBackend, name: str, **run_config: Any) -> str:
    """Run SHOW and return the line that it prints."""
    storage = {"type": "Command", "argv": SHOW}
    run_id = backend.add_run(storage, name=name, run_config={"type": "LocalRun", **run_config})
    assert wait_for_end(backend, run_id) is RunState.SUCCESS
    return next(line.message for line in backend.lines if line.flow_run_id == run_id and line.stream == "stdout")


def test_overrides_of_populate_env_vars_and_get_run_config_shape_the_run(
    agent: Choosing, backend: MemoryBackend
) -> None:
    env = {"GIVEN": "weaker", "FLOW": "removed by the class"}
    assert shown(backend, "one", env=env) == "given to one  gone gone /usr"
    assert shown(backend, "two", working_dir="/") == "given to two  gone gone /"


def test_what_the_class_raises_fails_the_run_with_its_text_before_anything_is_started(
    agent: Choosing, backend: MemoryBackend
) -> None:
    run_id = backend.add_run({"type": "Command", "argv": SHOW}, name="refused")
    assert wait_for_end(backend, run_id) is RunState.FAILED
    assert "no such secret" in backend.message(run_id)
    assert [report.state for report in backend.history if report.flow_run_id == run_id] == [RunState.FAILED]


def test_a_backend_that_the_class_needs_and_that_is_away_leaves_the_run_to_a_later_poll(
    agent: Choosing, backend: MemoryBackend
) -> None:
    assert shown(backend, "later") == "given to later  gone gone /usr"
    assert agent.failures == 0


def test_attributes_that_are_changed_later_count_for_later_runs(agent: Choosing, backend: MemoryBackend) -> None:
    before = agent.env_vars
    agent.env_vars = {"INHERITED": "of the agent", "PLACE": "agent"}
    try:
        assert shown(backend, "three") == "given to three  of the agent gone /usr"
    finally:
        agent.env_vars = before


def test_processes_are_those_of_the_runs_and_heartbeat_removes_them(agent: Choosing, backend: MemoryBackend) -> None:
    run_id = backend.add_run({"type": "Command", "argv": SLEEP}, name="long")
    (process,) = wait_until(lambda: [one for one in agent.processes if one.flow_run_id == run_id])
    assert (process.poll(), process.returncode) == (None, None)
    wait_until(lambda: f"PID: {process.pid}" in "".join(backend.log(run_id)[:1]), what="the pid in the log")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.01)
    process.kill()
    assert wait_for_end(backend, run_id) is RunState.CANCELLED
    assert "its agent's own code" in backend.message(run_id)
    assert process.wait(timeout=10) in (-signal.SIGTERM, -signal.SIGKILL)
    wait_until(lambda: process not in agent.processes)


def test_a_process_that_a_subclass_starts_itself_is_waited_for(agent: Choosing, backend: MemoryBackend) -> None:
    process = subprocess.Popen(["false"])
    agent.processes.add(process)
    agent.poke()
    wait_until(lambda: process not in agent.processes)
    assert process.returncode == 1


def test_with_a_period_of_its_own_heartbeat_is_called_by_the_clock(backend: MemoryBackend) -> None:
    class Beating(Agent):
        heartbeat_period = 0.02

        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.calls: list[str] = []

        def on_startup(self) -> None:
            self.calls.append("startup")

        def heartbeat(self) -> None:
            self.calls.append("heartbeat")
            raise RuntimeError("one heartbeat fails")

        def query_flow_runs(self) -> list[FlowRun]:
            self.calls.append("poll")
            return []

    with going(Beating(backend=MemoryBackend())) as agent:
        wait_until(lambda: agent.calls.count("heartbeat") > agent.calls.count("poll") + 3)
    assert agent.calls[0] == "startup"
    assert agent.calls.count("startup") == 1


def test_a_run_that_an_override_of_deploy_flow_starts_itself_is_started_once(
    backend: MemoryBackend, tmp_path: Path, clean_environment: Path
) -> None:
    """As a copy of the deploy_flow of Prefect's LocalAgent does it."""

    class Own(LocalAgent):
        polls = 0

        def deploy_flow(self, flow_run: FlowRun) -> str:
            env = {**os.environ, **self.populate_env_vars(flow_run=flow_run)}
            process = subprocess.Popen(flow_run.flow.storage["argv"], env=env)
            self.processes.add(process)
            return f"PID: {process.pid}"

        def heartbeat(self) -> None:
            self.polls += 1
            super().heartbeat()

    mark = tmp_path / "mark"
    own = MemoryBackend()
    with going(Own(backend=own, hostname_label=False, env_vars={"MARK": str(mark)})) as agent:
        run_id = own.add_run({"type": "Command", "argv": ["sh", "-c", 'echo x >> "$MARK"']})
        wait_until(lambda: own.log(run_id) and mark.exists() and not agent.processes)
        seen = agent.polls
        wait_until(lambda: agent.polls > seen + 3)
    assert mark.read_text() == "x\n"
    assert own.state(run_id) is RunState.SUBMITTED
    assert own.log(run_id)[0].startswith("Submitted for execution: PID: ")
    assert list((clean_environment / "agents" / "agent" / "runs").iterdir()) == []


def test_a_run_that_an_override_deploys_and_reports_itself_is_left_alone(tmp_path: Path) -> None:
    class Whole(LocalAgent):
        polls = 0

        def deploy_and_update_flow_run(self, flow_run: FlowRun) -> None:
            self.update_state(flow_run)

        def heartbeat(self) -> None:
            self.polls += 1

    own = MemoryBackend()
    with going(Whole(backend=own, hostname_label=False)) as agent:
        run_id = own.add_run({"type": "Command", "argv": ["touch", str(tmp_path / "mark")]})
        wait_until(lambda: own.state(run_id) is RunState.SUBMITTED)
        seen = agent.polls
        wait_until(lambda: agent.polls > seen + 3)
    assert not (tmp_path / "mark").exists()

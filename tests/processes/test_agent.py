"""The published contract of the class Agent, with the in-memory backend and over real HTTP."""

from __future__ import annotations

import contextlib
import json
import random
import runpy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowherd import Agent
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config.conf_files import conf_directory
from flowherd.errors import BackendUnavailable
from flowherd.states import RunState
from flowherd.values import FlowRun
from tests.support.agents import COMMAND, FailingAgent, RecordingAgent, going
from tests.support.waiting import wait_until


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


def test_without_arguments_and_settings_the_published_defaults_apply(backend: MemoryBackend) -> None:
    agent = Agent(backend=backend)
    assert (agent.name, agent.labels, agent.env_vars) == ("agent", [], {})
    assert (agent.max_polls, agent.agent_address, agent.log_to_cloud) == (None, "", True)
    assert agent.submitting_flow_runs == set()


def test_arguments_that_are_not_given_come_from_the_environment(
    backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__NAME", "from-env")
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LABELS", "['a', 'b']")
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__AGENT_ADDRESS", "http://127.0.0.1:0")
    agent = Agent(backend=backend)
    assert (agent.name, agent.labels, agent.agent_address) == ("from-env", ["a", "b"], "http://127.0.0.1:0")
    given = Agent(name="given", labels=["c"], backend=backend)
    assert (given.name, given.labels) == ("given", ["c"])


def test_arguments_are_attributes(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__ENV_VARS", "{'test1': 'test2', 'test3': 'test4'}")
    assert Agent(backend=backend).env_vars == {"test1": "test2", "test3": "test4"}
    agent = Agent(labels=["test", "2"], env_vars={"AUTH_THING": "foo"}, max_polls=10, backend=backend)
    assert (agent.labels, agent.env_vars, agent.max_polls) == (["test", "2"], {"AUTH_THING": "foo"}, 10)


def test_hooks_of_the_base_class_do_nothing(backend: MemoryBackend) -> None:
    agent = Agent(backend=backend)
    assert agent.heartbeat() is None and agent.on_shutdown() is None  # type: ignore[func-returns-value]


def test_a_subclass_that_only_defines_deploy_flow_is_a_working_agent(backend: MemoryBackend) -> None:
    with going(RecordingAgent(backend=backend)) as agent:
        run_id = backend.add_run(COMMAND, name="job")
        wait_until(lambda: agent.deployed)
        wait_until(lambda: backend.log(run_id))
    assert agent.deployed == [run_id]
    assert backend.state(run_id) is RunState.SUBMITTED
    assert backend.log(run_id) == ["Submitted for execution: recorded job"]


def test_the_example_for_another_platform_works(backend: MemoryBackend, tmp_path: Path) -> None:
    example = runpy.run_path(str(conf_directory() / "examples" / "platform_agent.py"))
    spool_agent = example["SpoolAgent"]
    spool_agent.spool = tmp_path
    with going(spool_agent(backend=backend)):
        good = backend.add_run(COMMAND, parameters={"x": 1})
        bad = backend.add_run({"type": "Python", "ref": "a:b"})
        wait_until(lambda: backend.state(bad) is RunState.FAILED)
        spooled = wait_until(lambda: next(tmp_path.iterdir(), None))
    assert spooled.name == f"{good}.json"
    assert json.loads(spooled.read_text()) == {"argv": ["true"], "parameters": {"x": 1}}
    assert "commands only" in backend.message(bad)


def test_the_base_class_does_not_know_how_to_deploy(backend: MemoryBackend) -> None:
    run_id = backend.add_run(COMMAND)
    with pytest.raises(NotImplementedError):
        Agent(backend=backend).deploy_flow(backend.ready_runs([], ())[0])
    assert backend.state(run_id) is RunState.SCHEDULED


def test_an_error_of_the_platform_fails_the_run_and_is_in_its_message_and_log(backend: MemoryBackend) -> None:
    with going(FailingAgent(backend=backend)):
        run_id = backend.add_run(COMMAND)
        wait_until(lambda: backend.state(run_id) is RunState.FAILED)
    assert backend.message(run_id) == "no room on the platform"
    assert backend.log(run_id) == ["no room on the platform"]


def test_runs_that_are_being_deployed_are_not_found_again(backend: MemoryBackend) -> None:
    deploying, other = backend.add_run(COMMAND), backend.add_run(COMMAND)
    agent = Agent(backend=backend)
    agent.submitting_flow_runs.add(deploying)
    assert [flow_run.id for flow_run in agent.query_flow_runs()] == [other]
    assert agent.submitting_flow_runs == {deploying}


def test_after_a_lost_claim_nothing_is_reported_or_logged(backend: MemoryBackend) -> None:
    run_id = backend.add_run(COMMAND)
    (flow_run,) = backend.ready_runs([], ())
    backend.claim(flow_run, "another agent")
    agent = RecordingAgent(backend=backend)
    agent.deploy_and_update_flow_run(flow_run)
    assert (agent.deployed, backend.history, backend.lines) == ([], [], [])
    assert backend.state(run_id) is RunState.SUBMITTED


def test_a_log_line_that_cannot_be_written_does_not_fail_the_deployment(backend: MemoryBackend) -> None:
    class Mute(MemoryBackend):
        def write_logs(self, lines: Any) -> None:
            raise BackendUnavailable("no logs today")

    mute = Mute()
    run_id = mute.add_run(COMMAND)
    agent = RecordingAgent(backend=mute)
    agent.deploy_and_update_flow_run(mute.ready_runs([], ())[0])
    assert agent.deployed == [run_id]
    assert mute.state(run_id) is RunState.SUBMITTED


def test_a_run_whose_claim_got_no_answer_is_deployed_once(backend: MemoryBackend) -> None:
    class Cut(MemoryBackend):
        cuts = 1

        def claim(self, flow_run: FlowRun, token: str) -> None:
            super().claim(flow_run, token)
            if self.cuts:
                self.cuts -= 1
                raise BackendUnavailable("the connection was cut after the commit")

    cut = Cut()
    run_id = cut.add_run(COMMAND)
    agent = RecordingAgent(backend=cut)
    agent.deploy_and_update_flow_run(cut.ready_runs([], ())[0])
    assert agent.deployed == [run_id]


def test_a_claim_that_cannot_be_looked_up_is_looked_up_again_at_a_later_poll() -> None:
    class Away(MemoryBackend):
        away = True

        def claim(self, flow_run: FlowRun, token: str) -> None:
            super().claim(flow_run, token)
            if self.away:
                raise BackendUnavailable("cut")

        def stored_states(self, flow_run_ids: Any) -> Any:
            if self.away:
                raise BackendUnavailable("away")
            return super().stored_states(flow_run_ids)

    away = Away()
    run_id = away.add_run(COMMAND)
    agent = RecordingAgent(backend=away)
    with ThreadPoolExecutor() as executor:
        assert agent.agent_process(executor)
        wait_until(lambda: not agent.submitting_flow_runs)
        assert agent.deployed == []
        away.away = False
        agent.agent_process(executor)
        wait_until(lambda: agent.deployed)
        agent.agent_process(executor)
    assert agent.deployed == [run_id]


def test_of_many_agents_on_one_backend_only_one_deploys_each_run(backend: MemoryBackend) -> None:
    runs = [backend.add_run(COMMAND) for _ in range(30)]
    agents = [RecordingAgent(name=f"agent-{n}", backend=backend) for n in range(5)]
    with contextlib.ExitStack() as stack:
        for agent in agents:
            stack.enter_context(going(agent))
        wait_until(lambda: sum(len(agent.deployed) for agent in agents) >= len(runs))
    assert sorted(run_id for agent in agents for run_id in agent.deployed) == sorted(runs)


def test_of_several_agents_on_one_host_only_one_deploys_each_run_even_if_the_backend_ignores_versions() -> None:
    class Careless(MemoryBackend):
        """Behaves like servers of the time of 0.13: all claims succeed, and the last one is stored."""

        def connect(self) -> ServerCapabilities:
            return replace(super().connect(), arbitrates=False)

        def claim(self, flow_run: FlowRun, token: str) -> None:
            self.delay()
            with self._lock:
                self._set(self._runs[flow_run.id], RunState.SUBMITTED, "Submitted", token)

        def stored_states(self, flow_run_ids: Any) -> Any:
            found = super().stored_states(flow_run_ids)
            self.delay()
            return found

        def delay(self) -> None:
            """Wait as a network would; without a delay the agents hardly ever compete."""
            threading.Event().wait(random.uniform(0, 0.005))

    careless = Careless()
    runs = [careless.add_run(COMMAND) for _ in range(40)]
    agents = [RecordingAgent(name=f"agent-{n}", backend=careless) for n in range(4)]
    with contextlib.ExitStack() as stack:
        for agent in agents:
            stack.enter_context(going(agent))
        wait_until(lambda: sum(len(agent.deployed) for agent in agents) >= len(runs))
    assert sorted(run_id for agent in agents for run_id in agent.deployed) == sorted(runs)

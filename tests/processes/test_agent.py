"""The published contract of the base class, over the in-memory backend and real HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import random
import runpy
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from flowherd import Agent
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config.conf_files import conf_directory
from flowherd.errors import BackendUnavailable, ConfigurationError, NotAuthorized
from flowherd.states import RunState
from flowherd.values import FlowRun, LogLine
from tests.support.agents import QUICK, going
from tests.support.waiting import wait_until

COMMAND = {"type": "Command", "argv": ["true"]}


class Recording(Agent):
    """Deploys by remembering."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.deployed: list[str] = []

    def deploy_flow(self, flow_run: FlowRun) -> str:
        self.deployed.append(flow_run.id)
        return f"remembered {flow_run.flow.name}"


class Failing(Agent):
    """Cannot deploy."""

    def deploy_flow(self, flow_run: FlowRun) -> str:
        raise RuntimeError("no room on the platform")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_without_arguments_and_settings_the_published_defaults_hold(backend: MemoryBackend) -> None:
    agent = Agent(backend=backend)
    assert (agent.name, agent.labels, agent.env_vars) == ("agent", [], {})
    assert (agent.max_polls, agent.agent_address, agent.log_to_cloud) == (None, "", True)
    assert agent.submitting_flow_runs == set()


def test_what_is_not_given_comes_from_the_environment(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__NAME", "from-env")
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__LABELS", "['a', 'b']")
    monkeypatch.setenv("PREFECT__CLOUD__AGENT__AGENT_ADDRESS", "http://127.0.0.1:0")
    agent = Agent(backend=backend)
    assert (agent.name, agent.labels, agent.agent_address) == ("from-env", ["a", "b"], "http://127.0.0.1:0")
    given = Agent(name="given", labels=["c"], backend=backend)
    assert (given.name, given.labels) == ("given", ["c"])


def test_a_subclass_with_only_deploy_flow_is_a_working_agent(backend: MemoryBackend) -> None:
    with going(Recording(backend=backend)) as agent:
        run_id = backend.add_run(COMMAND, name="job")
        wait_until(lambda: agent.deployed)
        wait_until(lambda: backend.log(run_id))
    assert agent.deployed == [run_id]
    assert backend.state(run_id) is RunState.SUBMITTED
    assert backend.log(run_id) == ["Submitted for execution: remembered job"]


def test_the_example_of_another_platform_works(backend: MemoryBackend, tmp_path: Path) -> None:
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


def test_an_error_of_the_platform_goes_to_the_runs_log_and_fails_it_with_its_text(backend: MemoryBackend) -> None:
    with going(Failing(backend=backend)):
        run_id = backend.add_run(COMMAND)
        wait_until(lambda: backend.state(run_id) is RunState.FAILED)
    assert backend.message(run_id) == "no room on the platform"
    assert backend.log(run_id) == ["no room on the platform"]


def test_a_lost_claim_is_followed_by_no_report_and_no_line(backend: MemoryBackend) -> None:
    run_id = backend.add_run(COMMAND)
    (flow_run,) = backend.ready_runs([], ())
    backend.claim(flow_run, "somebody else")
    agent = Recording(backend=backend)
    agent.deploy_and_update_flow_run(flow_run)
    assert (agent.deployed, backend.history, backend.lines) == ([], [], [])
    assert backend.state(run_id) is RunState.SUBMITTED


def test_a_log_line_that_cannot_be_written_fails_nothing(backend: MemoryBackend) -> None:
    class Mute(MemoryBackend):
        def write_logs(self, lines: Any) -> None:
            raise BackendUnavailable("no logs today")

    mute = Mute()
    run_id = mute.add_run(COMMAND)
    agent = Recording(backend=mute)
    agent.deploy_and_update_flow_run(mute.ready_runs([], ())[0])
    assert agent.deployed == [run_id]
    assert mute.state(run_id) is RunState.SUBMITTED


def test_a_claim_whose_answer_is_lost_is_recognised_and_deployed_once(backend: MemoryBackend) -> None:
    class Cut(MemoryBackend):
        cuts = 1

        def claim(self, flow_run: FlowRun, token: str) -> None:
            super().claim(flow_run, token)
            if self.cuts:
                self.cuts -= 1
                raise BackendUnavailable("the connection was cut after the commit")

    cut = Cut()
    run_id = cut.add_run(COMMAND)
    agent = Recording(backend=cut)
    agent.deploy_and_update_flow_run(cut.ready_runs([], ())[0])
    assert agent.deployed == [run_id]


def test_a_claim_that_cannot_be_looked_up_yet_is_settled_at_a_later_poll() -> None:
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
    agent = Recording(backend=away)
    with ThreadPoolExecutor() as executor:
        assert agent.agent_process(executor)
        wait_until(lambda: not agent.submitting_flow_runs)
        assert agent.deployed == []
        away.away = False
        agent.agent_process(executor)
        wait_until(lambda: agent.deployed)
        agent.agent_process(executor)
    assert agent.deployed == [run_id]


def test_many_agents_on_one_backend_never_both_deploy(backend: MemoryBackend) -> None:
    runs = [backend.add_run(COMMAND) for _ in range(30)]
    agents = [Recording(name=f"agent-{n}", backend=backend) for n in range(5)]
    with contextlib.ExitStack() as stack:
        for agent in agents:
            stack.enter_context(going(agent))
        wait_until(lambda: sum(len(agent.deployed) for agent in agents) >= len(runs))
    assert sorted(run_id for agent in agents for run_id in agent.deployed) == sorted(runs)


def test_agents_of_one_host_never_both_deploy_even_where_the_backend_ignores_versions() -> None:
    class Careless(MemoryBackend):
        """As the servers of the 0.13 days: the last claim wins, and everybody is told of success."""

        def connect(self) -> ServerCapabilities:
            return replace(super().connect(), arbitrates=False)

        def claim(self, flow_run: FlowRun, token: str) -> None:
            self.take_a_while()
            with self._lock:
                self._set(self._runs[flow_run.id], RunState.SUBMITTED, "Submitted", token)

        def stored_states(self, flow_run_ids: Any) -> Any:
            found = super().stored_states(flow_run_ids)
            self.take_a_while()
            return found

        def take_a_while(self) -> None:
            """As the network does; without it, the agents hardly ever meet."""
            threading.Event().wait(random.uniform(0, 0.005))

    careless = Careless()
    runs = [careless.add_run(COMMAND) for _ in range(40)]
    agents = [Recording(name=f"agent-{n}", backend=careless) for n in range(4)]
    with contextlib.ExitStack() as stack:
        for agent in agents:
            stack.enter_context(going(agent))
        wait_until(lambda: sum(len(agent.deployed) for agent in agents) >= len(runs))
    assert sorted(run_id for agent in agents for run_id in agent.deployed) == sorted(runs)


def test_agent_process_says_whether_runs_were_found_and_raises_for_no_bad_run(backend: MemoryBackend) -> None:
    agent = Failing(backend=backend)
    with ThreadPoolExecutor() as executor:
        assert agent.agent_process(executor) is False
        backend.add_run(COMMAND)
        assert agent.agent_process(executor) is True


def test_a_silent_backend_does_not_end_the_loop() -> None:
    class Silent(MemoryBackend):
        def ready_runs(self, labels: Any, exclude: Any) -> Any:
            raise BackendUnavailable("silent")

    Agent(backend=Silent(), max_polls=3).start(_loop_intervals=QUICK)


def test_a_refused_token_stops_the_agent_clearly() -> None:
    class Strict(MemoryBackend):
        def connect(self) -> Any:
            raise NotAuthorized("the token is not good")

    with pytest.raises(NotAuthorized, match="token is not good"):
        Agent(backend=Strict()).start(_loop_intervals=QUICK)


def test_for_the_cloud_a_token_must_be_there(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__BACKEND", "cloud")
    with pytest.raises(NotAuthorized, match="PREFECT__CLOUD__AGENT__AUTH_TOKEN"):
        Agent(backend=backend).start(_loop_intervals=QUICK)


def test_max_polls_ends_the_agent_with_its_hooks_called(backend: MemoryBackend) -> None:
    class Hooked(Recording):
        beats = 0
        shut_down = 0

        def heartbeat(self) -> None:
            self.beats += 1

        def on_shutdown(self) -> None:
            self.shut_down += 1

    agent = Hooked(backend=backend, max_polls=3)
    agent.start(_loop_intervals=QUICK)
    assert (agent.beats, agent.shut_down) == (3, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_the_agent_cleanly_and_the_handlers_are_put_back(
    backend: MemoryBackend, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    agent = Recording(backend=backend)
    killer = threading.Thread(
        target=lambda: (wait_until(lambda: agent._connection.capabilities is not None), os.kill(os.getpid(), number))
    )
    killer.start()
    agent.start(_loop_intervals={0: 60.0})
    killer.join()
    assert signal.getsignal(number) is before


def test_the_attempt_to_deploy_frees_the_id(backend: MemoryBackend) -> None:
    agent = Recording(backend=backend)
    agent.submitting_flow_runs.add("x")
    agent.on_flow_run_deploy_attempt(None, "x")  # type: ignore[arg-type]
    assert agent.submitting_flow_runs == set()


class TestApi:
    def test_health_poke_runs_and_metrics(self, backend: MemoryBackend, session: requests.Session) -> None:
        agent = Recording(backend=backend, agent_address="http://127.0.0.1:0")
        thread = threading.Thread(target=agent.start, args=({0: 60.0},))
        thread.start()
        address = wait_until(lambda: agent.api_address)
        try:
            wait_until(lambda: session.get(f"{address}/api/health", timeout=5).json().get("status") == "ok")
            backend._runs.clear()
            run_id = backend.add_run(COMMAND)
            assert session.get(f"{address}/api/poke", timeout=5).status_code == 200
            wait_until(lambda: agent.deployed == [run_id])
            assert session.get(f"{address}/api/runs", timeout=5).json()["agent"] == "agent"
            assert "flowherd_up 1.0" in session.get(f"{address}/metrics", timeout=5).text
        finally:
            agent.stop()
            thread.join()

    def test_health_is_503_while_the_backend_is_silent(self, session: requests.Session) -> None:
        class Silent(MemoryBackend):
            def connect(self) -> Any:
                raise BackendUnavailable("silent")

        agent = Recording(backend=Silent(), agent_address="http://127.0.0.1:0")
        agent._connection.opened_s -= 3600
        with going(agent):
            address = wait_until(lambda: agent.api_address)
            answer = session.get(f"{address}/api/health", timeout=5)
            assert answer.status_code == 503
            assert "backend" in answer.json()["reason"]

    def test_with_a_token_all_but_bare_health_needs_it(
        self, backend: MemoryBackend, session: requests.Session, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLOWHERD__AGENT__API_TOKEN", "key")
        with going(Recording(backend=backend, agent_address="http://127.0.0.1:0")) as agent:
            address = wait_until(lambda: agent.api_address)
            health = session.get(f"{address}/api/health", timeout=5)
            assert (health.status_code, health.json()) == (200, {})
            for path in ("/api/poke", "/api/runs", "/metrics"):
                assert session.get(address + path, timeout=5).status_code == 401
                headers = {"Authorization": "Bearer key"}
                assert session.get(address + path, headers=headers, timeout=5).status_code == 200

    def test_a_foreign_host_name_is_refused(self, backend: MemoryBackend, session: requests.Session) -> None:
        with going(Recording(backend=backend, agent_address="http://127.0.0.1:0")) as agent:
            address = wait_until(lambda: agent.api_address)
            answer = session.get(f"{address}/api/runs", headers={"Host": "evil.example"}, timeout=5)
            assert answer.status_code == 400

    @pytest.mark.parametrize("address", ["http://0.0.0.0:0", "http://127.0.0.1", "http://127.0.0.1:x"])
    def test_an_unusable_address_is_refused_with_the_reason(self, backend: MemoryBackend, address: str) -> None:
        with pytest.raises(ConfigurationError, match="agent address"):
            Agent(backend=backend, agent_address=address).start(_loop_intervals=QUICK)


def test_no_cloud_logs_stops_the_agents_own_lines_too(backend: MemoryBackend) -> None:
    agent = Recording(backend=backend, no_cloud_logs=True)
    run_id = backend.add_run(COMMAND)
    agent.deploy_and_update_flow_run(backend.ready_runs([], ())[0])
    assert agent.deployed == [run_id]
    assert backend.lines == []


def test_a_line_of_the_agents_own_names_the_agent(backend: MemoryBackend) -> None:
    agent = Recording(name="north", backend=backend)
    backend.add_run(COMMAND)
    agent.deploy_and_update_flow_run(backend.ready_runs([], ())[0])
    (line,) = backend.lines
    assert isinstance(line, LogLine) and line.logger == "north"

"""How an agent goes on and ends: silence, refusals, hooks, signals, its logger, and rows that a subclass has read."""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from flowherd import Agent, AuthorizationError, LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config import load_settings
from flowherd.errors import BackendUnavailable, NotAuthorized
from flowherd.states import RunState
from flowherd.values import FlowRun, LogLine
from tests.support.agents import COMMAND, QUICK, FailingAgent, RecordingAgent, going
from tests.support.http_server import Answer, canned_server
from tests.support.waiting import wait_until


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


def test_agent_process_returns_whether_runs_were_found_and_a_failing_run_raises_nothing(backend: MemoryBackend) -> None:
    agent = FailingAgent(backend=backend)
    with ThreadPoolExecutor() as executor:
        assert agent.agent_process(executor) is False
        backend.add_run(COMMAND)
        assert agent.agent_process(executor) is True


def test_a_silent_backend_does_not_end_the_loop() -> None:
    class SilentAtPolls(MemoryBackend):
        def ready_runs(self, labels: Any, exclude: Any) -> Any:
            raise BackendUnavailable("silent")

    Agent(backend=SilentAtPolls(), max_polls=3).start(_loop_intervals=QUICK)


def test_a_refused_token_stops_the_agent_with_a_clear_error() -> None:
    class Strict(MemoryBackend):
        def connect(self) -> Any:
            raise NotAuthorized("the token is not good")

    with pytest.raises(NotAuthorized, match="token is not good"):
        Agent(backend=Strict()).start(_loop_intervals=QUICK)


def test_the_cloud_backend_needs_a_token(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT__BACKEND", "cloud")
    with pytest.raises(AuthorizationError, match="PREFECT__CLOUD__AGENT__AUTH_TOKEN"):
        Agent(backend=backend).start(_loop_intervals=QUICK)


def test_a_token_for_the_cloud_must_have_the_scope_of_agents() -> None:
    settings = {"backend": "cloud", "cloud.agent.auth_token": "of-a-user"}
    with canned_server() as server:
        server.answers = [Answer(body=b'{"data": {"auth_info": {"api_token_scope": "USER"}}}')]
        agent = Agent(settings=load_settings({**settings, "cloud.api": server.url}))
        with pytest.raises(AuthorizationError, match="does not have the scope RUNNER"):
            agent.start(_loop_intervals=QUICK)


@pytest.mark.parametrize("max_polls", [0, 1, 3])
def test_max_polls_ends_the_agent_after_its_hooks_were_called(backend: MemoryBackend, max_polls: int) -> None:
    class Hooked(RecordingAgent):
        beats = 0
        polls = 0
        shut_down = 0

        def agent_process(self, executor: Executor) -> bool:
            self.polls += 1
            return super().agent_process(executor)

        def heartbeat(self) -> None:
            self.beats += 1

        def on_shutdown(self) -> None:
            self.shut_down += 1

    agent = Hooked(backend=backend, max_polls=max_polls)
    agent.start(_loop_intervals=QUICK)
    assert (agent.beats, agent.polls, agent.shut_down) == (max_polls, max_polls, 1)


@pytest.mark.parametrize("hook", ["heartbeat", "query_flow_runs"])
def test_a_hook_that_raises_system_exit_while_the_agent_polls_ends_start(backend: MemoryBackend, hook: str) -> None:
    """As in Prefect: `start` returns, after `on_shutdown`, and the exit code is not passed on."""
    called: list[str] = []

    class Leaving(RecordingAgent):
        def on_shutdown(self) -> None:
            called.append("on_shutdown")

    def leave(self: Agent) -> Any:
        called.append(hook)
        raise SystemExit(3)

    setattr(Leaving, hook, leave)
    Leaving(backend=backend).start(_loop_intervals=QUICK)
    assert called == [hook, "on_shutdown"]


def test_system_exit_while_the_agent_gets_ready_is_passed_on_after_cleanup(backend: MemoryBackend) -> None:
    called: list[str] = []

    class Refusing(RecordingAgent):
        def setup(self) -> None:
            raise SystemExit(4)

        def on_shutdown(self) -> None:
            called.append("on_shutdown")

    with pytest.raises(SystemExit) as caught:
        Refusing(backend=backend).start(_loop_intervals=QUICK)
    assert (caught.value.code, called) == (4, ["on_shutdown"])


def test_system_exit_of_deploy_flow_fails_its_run_and_not_the_agent(backend: MemoryBackend) -> None:
    class Leaving(RecordingAgent):
        def deploy_flow(self, flow_run: FlowRun) -> str:
            if flow_run.name == "bad":
                raise SystemExit(5)
            return super().deploy_flow(flow_run)

    with going(Leaving(backend=backend)) as agent:
        bad = backend.add_run(COMMAND, name="bad")
        wait_until(lambda: backend.state(bad) is RunState.FAILED)
        backend.add_run(COMMAND)
        wait_until(lambda: agent.deployed)
    assert backend.message(bad) == "Leaving.deploy_flow raised SystemExit(5)"


def test_the_agents_own_lines_are_records_of_its_logger(
    backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    agent = FailingAgent(name="told", backend=backend)
    run_id = backend.add_run(COMMAND)
    agent.deploy_and_update_flow_run(backend.ready_runs([], ())[0])
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("told", "ERROR", f"Flow run {run_id} could not be deployed: RuntimeError('no room on the platform')")
    ]


def test_whatever_fails_when_the_agent_connects_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(MemoryBackend):
        failures = 1

        def connect(self) -> ServerCapabilities:
            if self.failures:
                self.failures -= 1
                raise RuntimeError("not understood")
            return super().connect()

    agent = RecordingAgent(backend=Odd())
    assert agent.agent_connect() is None  # type: ignore[func-returns-value]
    assert "Cannot reach the backend at memory, trying again: not understood" in caplog.text
    agent.agent_connect()
    assert agent._own_connection.capabilities is not None


def test_the_agent_registers_itself_by_a_method_that_can_be_overridden(backend: MemoryBackend) -> None:
    class Registering(RecordingAgent):
        registered = 0

        def _register_agent(self) -> str:
            self.registered += 1
            return super()._register_agent()

    agent = Registering(backend=backend, max_polls=2)
    agent.start(_loop_intervals=QUICK)
    assert agent.registered == 1


def test_rows_that_a_subclass_has_read_itself_are_deployed(backend: MemoryBackend) -> None:
    class Reading(RecordingAgent):
        def query_flow_runs(self) -> list[Any]:
            found = (flow_run.to_dict() for flow_run in super().query_flow_runs())
            return [{key: one[key] for key in ("id", "version", "serialized_state", "flow")} for one in found]

    with going(Reading(backend=backend)) as agent:
        run_id = backend.add_run(COMMAND)
        wait_until(lambda: agent.deployed)
        wait_until(lambda: backend.log(run_id))
    assert agent.deployed == [run_id]


@pytest.mark.parametrize("when", ["while it is deployed", "before it is deployed"])
def test_a_run_that_a_subclass_finds_twice_is_deployed_once(backend: MemoryBackend, when: str) -> None:
    """The claim would not stop it, because claiming again with the same token succeeds."""

    class Stale(RecordingAgent):
        queries = 0

        def query_flow_runs(self) -> list[FlowRun]:
            self.queries += 1
            if self.queries == 2 and when == "before it is deployed":
                wait_until(lambda: not self.submitting_flow_runs)
            return [flow_run, flow_run] if self.queries <= 2 else []

        def deploy_flow(self, flow_run: FlowRun) -> str:
            wait_until(lambda: self.queries >= (2 if when == "before it is deployed" else 3))
            return super().deploy_flow(flow_run)

    run_id = backend.add_run(COMMAND)
    (flow_run,) = backend.ready_runs([], ())
    with going(Stale(backend=backend)) as agent:
        wait_until(lambda: agent.queries > 3 and not agent.submitting_flow_runs)
    assert (agent.deployed, len(backend.log(run_id))) == ([run_id], 1)


def test_a_subclass_that_finds_more_runs_than_the_limit_starts_no_more(backend: MemoryBackend) -> None:
    class Greedy(LocalAgent):
        def query_flow_runs(self) -> list[FlowRun]:
            return backend.ready_runs([], ())

    agent = Greedy(hostname_label=False, limit=2, backend=backend)
    for _ in range(5):
        backend.add_run(COMMAND)
    assert len(agent._own_new_flow_runs()) == 2


@pytest.mark.parametrize("method", ["update_state", "deploy_and_update_flow_run"])
def test_the_methods_for_one_flow_run_take_a_plain_row(backend: MemoryBackend, method: str) -> None:
    run_id = backend.add_run(COMMAND)
    (flow_run,) = backend.ready_runs([], ())
    getattr(RecordingAgent(backend=backend), method)(flow_run.to_dict())
    assert backend.state(run_id) is RunState.SUBMITTED


def test_a_run_is_marked_failed_by_its_row_and_an_exception_without_text(backend: MemoryBackend) -> None:
    run_id = backend.add_run(COMMAND)
    (flow_run,) = backend.ready_runs([], ())
    agent = RecordingAgent(backend=backend)
    agent.update_state(flow_run)
    agent.mark_failed(flow_run={"id": run_id, "version": 2, "task_runs": []}, exc=Exception())  # type: ignore[arg-type]
    assert (backend.state(run_id), backend.message(run_id)) == (RunState.FAILED, "Exception")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_the_agent_cleanly_and_the_handlers_are_restored(
    backend: MemoryBackend, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    agent = RecordingAgent(backend=backend)
    killer = threading.Thread(
        target=lambda: (
            wait_until(lambda: agent._own_connection.capabilities is not None),
            os.kill(os.getpid(), number),
        )
    )
    killer.start()
    agent.start(_loop_intervals={0: 60.0})
    killer.join()
    assert signal.getsignal(number) is before


def test_an_attempt_to_deploy_removes_the_id_from_the_runs_being_submitted(backend: MemoryBackend) -> None:
    agent = RecordingAgent(backend=backend)
    agent.submitting_flow_runs.add("x")
    agent.on_flow_run_deploy_attempt(None, "x")  # type: ignore[arg-type]
    assert agent.submitting_flow_runs == set()


def test_no_cloud_logs_also_stops_the_agents_own_lines(backend: MemoryBackend) -> None:
    agent = RecordingAgent(backend=backend, no_cloud_logs=True)
    run_id = backend.add_run(COMMAND)
    agent.deploy_and_update_flow_run(backend.ready_runs([], ())[0])
    assert agent.deployed == [run_id]
    assert backend.lines == []


def test_a_line_of_the_agent_names_the_agent(backend: MemoryBackend) -> None:
    agent = RecordingAgent(name="north", backend=backend)
    backend.add_run(COMMAND)
    agent.deploy_and_update_flow_run(backend.ready_runs([], ())[0])
    (line,) = backend.lines
    assert isinstance(line, LogLine) and line.logger == "north"

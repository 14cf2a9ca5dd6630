"""Agents that share labels share the runs: real agents at a real server, with a platform that only records."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowherd.agent.agent import Agent
from flowherd.agent.claims import Claims
from flowherd.agent.connection import Connection
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.values import AgentIdentity, Claim, FlowRun
from tests.support.agents import RecordingAgent, going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

RUNS = 60
#: An agent in a process of its own, which does nothing with its runs.
PROCESS = """
import sys
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from tests.support.agents import RecordingAgent
backend = GraphQLBackend(GraphQLTransport(sys.argv[1]))
RecordingAgent(name="process", labels=[sys.argv[2]], no_cloud_logs=True, backend=backend).start()
"""


class Counting(GraphQLBackend):
    """Counts the requests that claim, and the claims that are lost."""

    def __init__(self, url: str) -> None:
        super().__init__(GraphQLTransport(url))
        self.requests: list[list[str]] = []
        self.lost: list[str] = []

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        self.requests.append([claim.flow_run.id for claim in claims])
        answers = super().claim_many(claims)
        self.lost += [run_id for run_id, reason in answers.items() if reason is not None]
        return answers

    def claim(self, flow_run: FlowRun, token: str) -> None:
        try:
            super().claim(flow_run, token)
        except ClaimLost:
            self.lost.append(flow_run.id)
            raise


class OnlyDialect(Counting):
    """Knows only what agents of release 0.1.0 know of the server."""

    def connect(self) -> ServerCapabilities:
        capabilities = super().connect()
        self._shares = False
        return replace(capabilities, shares=False)


class LosesAnswers(Counting):
    """A connection that breaks after each claim of several runs was carried out."""

    #: Whether claims reach the server at all.
    arrives = True
    #: Whether queries about states get no answer either.
    silent = False
    #: After how many further queries about states that begins; None: never.
    silent_after: int | None = None

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        if self.arrives:
            super().claim_many(claims)
        raise BackendUnavailable("the answer was lost")

    def stored_states(self, flow_run_ids: Any) -> Any:
        if self.silent or self.silent_after == 0:
            raise BackendUnavailable("no answer")
        if self.silent_after is not None:
            self.silent_after -= 1
        return super().stored_states(flow_run_ids)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("sharing") / "data") as server:
        yield server


@pytest.fixture
def label(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


def agent_at(
    server: ServerProcess, label: str, kind: type[RecordingAgent] = RecordingAgent, backend: Counting | None = None
) -> RecordingAgent:
    return kind(name="agent", labels=[label], no_cloud_logs=True, backend=backend or Counting(server.url))


def create(server: ServerProcess, label: str, count: int) -> list[str]:
    client = Client(server)
    flow = client.flow()
    return [client.create_run(flow, labels=[label]) for _ in range(count)]


def backend_of(agent: Agent) -> Counting:
    assert isinstance(agent.backend, Counting)
    return agent.backend


def test_of_four_agents_each_run_is_started_by_one_and_hardly_a_claim_is_lost(
    server: ServerProcess, label: str
) -> None:
    waiting = create(server, label, RUNS // 2)
    with ExitStack() as stack:
        agents = [stack.enter_context(going(agent_at(server, label))) for _ in range(4)]
        later = create(server, label, RUNS // 2)
        wait_until(lambda: sum(len(agent.deployed) for agent in agents) >= RUNS)
    started = Counter(run_id for agent in agents for run_id in agent.deployed)
    assert started == Counter([*waiting, *later])
    backends = [backend_of(agent) for agent in agents]
    assert sum(len(backend.lost) for backend in backends) <= 1, "2 % of the claims"
    assert sum(len(backend.requests) for backend in backends) < RUNS
    assert min(len(agent.deployed) for agent in agents) > 0


def test_agents_that_know_only_the_dialect_take_their_part(server: ServerProcess, label: str) -> None:
    with going(agent_at(server, label)) as new, going(agent_at(server, label, backend=OnlyDialect(server.url))) as old:
        runs = create(server, label, 20)
        wait_until(lambda: len(new.deployed) + len(old.deployed) >= len(runs))
    assert Counter(new.deployed + old.deployed) == Counter(runs)


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_what_an_agent_is_offered_and_cannot_take_passes_on(
    server: ServerProcess, label: str, number: signal.Signals
) -> None:
    client = Client(server)
    process = subprocess.Popen([sys.executable, "-c", PROCESS, server.url, label], cwd=Path(__file__).parents[2])
    try:
        first, *_ = create(server, label, 1)
        wait_until(lambda: client.run(first)["state"] == "Submitted")
        process.send_signal(number)
        runs = create(server, label, 3)
        with going(agent_at(server, label)) as agent:
            wait_until(lambda: len(agent.deployed) >= len(runs))
        assert Counter(agent.deployed) == Counter(runs)
    finally:
        process.kill()
        process.wait()


def claims_at(backend: GraphQLBackend, identity: str) -> Claims:
    connection = Connection(lambda: backend, lambda _wake: None, lambda: None)
    connection.capabilities = backend.connect()
    backend.register(AgentIdentity(type="Test", name=identity, labels=()))
    return Claims(connection, lambda: identity)


def test_claims_whose_answer_was_lost_are_recognised_and_the_same_claims_have_the_same_answers(
    server: ServerProcess, label: str
) -> None:
    create(server, label, 3)
    backend, other = LosesAnswers(server.url), Counting(server.url)
    claims, others = claims_at(backend, "mine"), claims_at(other, "another's")
    runs = backend.ready_runs([label], ())
    others.take(runs[0])
    for _ in range(2):
        outcomes = claims.take_many(runs)
        assert isinstance(outcomes[runs[0].id], ClaimLost)
        assert [outcomes[run.id] for run in runs[1:]] == [None, None]
        assert not claims.uncertain
    assert not any(others.take_many(runs[1:])[run.id] is None for run in runs[1:])


def test_claims_that_cannot_be_looked_up_are_settled_later(server: ServerProcess, label: str) -> None:
    create(server, label, 2)
    backend = LosesAnswers(server.url)
    claims = claims_at(backend, "mine")
    runs = backend.ready_runs([label], ())
    backend.silent = True
    assert all(isinstance(error, BackendUnavailable) for error in claims.take_many(runs).values())
    backend.silent, backend.silent_after = False, 1
    with pytest.raises(BackendUnavailable):
        claims.settle(skip=())
    assert len(claims.uncertain) == 2, "that of which the answer had come is not forgotten with the other"
    backend.silent_after = None
    assert sorted(one.id for one in claims.settle(skip=()).won) == sorted(run.id for run in runs)
    (late,) = create(server, label, 1)
    backend.arrives = False
    assert isinstance(claims.take_many(backend.ready_runs([label], ()))[late], BackendUnavailable)
    assert list(claims.uncertain) == [late]


@pytest.mark.parametrize("hook", ["update_state", "deploy_and_update_flow_run"])
def test_an_override_that_claims_one_run_is_called_for_each(server: ServerProcess, label: str, hook: str) -> None:
    called: list[str] = []

    def override(self: RecordingAgent, flow_run: FlowRun) -> None:
        called.append(flow_run.id)
        getattr(RecordingAgent, hook)(self, flow_run)

    kind = type("Overriding", (RecordingAgent,), {hook: override})
    runs = create(server, label, 3)
    with going(agent_at(server, label, kind)) as agent:
        wait_until(lambda: len(agent.deployed) >= len(runs))
        assert backend_of(agent).requests == []
    assert sorted(called) == sorted(runs) == sorted(agent.deployed)


def test_each_run_of_a_common_claim_has_an_attempt_and_an_error_of_its_own(server: ServerProcess, label: str) -> None:
    ended: dict[str, bool] = {}
    client = Client(server)
    bad, *good = create(server, label, 4)

    class Picky(RecordingAgent):
        def deploy_flow(self, flow_run: FlowRun) -> str:
            if flow_run.id == bad:
                raise RuntimeError("not this one")
            return super().deploy_flow(flow_run)

        def on_flow_run_deploy_attempt(self, fut: Future[None], flow_run_id: str) -> None:
            ended[flow_run_id] = fut.done() and fut.exception() is None
            super().on_flow_run_deploy_attempt(fut, flow_run_id)

    with going(agent_at(server, label, Picky)) as agent:
        wait_until(lambda: len(ended) == 4)
        wait_until(lambda: not agent.submitting_flow_runs)
        assert len(backend_of(agent).requests) == 1
    assert all(ended.values())
    assert sorted(agent.deployed) == sorted(good)
    assert client.run(bad)["state"] == "Failed"


def test_a_server_that_was_restarted_while_it_had_offers_out_offers_them_anew(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        runs = create(server, "a", 2)
        asker = Counting(server.url)
        asker.connect()
        assert sorted(run.id for run in asker.offered_runs(["a"], (), None)) == sorted(runs)
        with going(agent_at(server, "a")) as agent:
            wait_until(lambda: backend_of(agent)._agent_id is not None)
            server.kill()
            server.start()
            wait_until(lambda: len(agent.deployed) == 2)
        assert sorted(agent.deployed) == sorted(runs)
        asker.close()


def test_an_agent_that_is_paused_or_stops_gives_its_offers_back(server: ServerProcess, label: str) -> None:
    heir = Counting(server.url)
    heir.connect()
    with going(agent_at(server, label)) as agent:
        wait_until(lambda: backend_of(agent)._agent_id is not None)
        agent.control.pause()
        wait_until(lambda: backend_of(agent)._room == 0)
        runs = create(server, label, 2)
        assert sorted(run.id for run in heir.offered_runs([label], (), None)) == sorted(runs)
        assert agent.deployed == []
    heir.close()

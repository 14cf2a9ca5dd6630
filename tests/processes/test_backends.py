"""One contract for every backend: the same tests over the one in memory and over GraphQL to a real server process."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.protocol import Backend
from flowherd.client.user import UserClient
from flowherd.errors import BackendError, BackendRefused, ClaimLost
from flowherd.states import RunState
from flowherd.values import AgentIdentity, FlowRun, LogLine, StateReport
from tests.support.server import running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

STORAGE = {"type": "Command", "argv": ["true"]}


class Peer(Protocol):
    """A backend together with what a user does at it."""

    backend: Backend

    def add_run(self, labels: list[str], parameters: dict[str, Any] | None = None) -> str: ...
    def cancel(self, run_id: str) -> None: ...
    def log(self, run_id: str) -> list[str]: ...


class InMemory:
    def __init__(self) -> None:
        self.backend = MemoryBackend()

    def add_run(self, labels: list[str], parameters: dict[str, Any] | None = None) -> str:
        return self.backend.add_run(STORAGE, labels=labels, parameters=parameters)

    def cancel(self, run_id: str) -> None:
        self.backend.cancel(run_id)

    def log(self, run_id: str) -> list[str]:
        return self.backend.log(run_id)


class OverGraphQL:
    def __init__(self, url: str) -> None:
        self.backend = GraphQLBackend(GraphQLTransport(url))
        self.user = UserClient(GraphQLTransport(url))

    def add_run(self, labels: list[str], parameters: dict[str, Any] | None = None) -> str:
        document = {
            "name": "flow",
            "type": "Flow",
            "parameters": [],
            "tasks": [],
            "edges": [],
            "reference_tasks": [],
            "storage": STORAGE,
            "__version__": "1.4.1",
            "run_config": {"type": "LocalRun", "labels": labels},
        }
        flow = self.user.create_flow(self.user.ensure_project("default"), document)
        return self.user.create_run(flow.id, parameters=parameters or {})

    def cancel(self, run_id: str) -> None:
        self.user.cancel(run_id)

    def log(self, run_id: str) -> list[str]:
        log, messages = self.user.log(run_id), []
        while lines := log.next_lines():
            messages += [line.message for line in lines]
        return messages


@pytest.fixture(params=["memory", "graphql"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    if request.param == "memory":
        yield InMemory()
        return
    with running_server(tmp_path / "data") as server:
        peer = OverGraphQL(server.url)
        yield peer
        peer.backend.close()
        peer.user.close()


@pytest.fixture
def backend(peer: Peer) -> Backend:
    peer.backend.connect()
    peer.backend.register(AgentIdentity(type="Test", name="test", labels=("a",)))
    return peer.backend


def ready(backend: Backend, run_id: str, labels: list[str]) -> FlowRun:
    return next(run for run in backend.ready_runs(labels, ()) if run.id == run_id)


def report(run_id: str, state: RunState, claim: str = "mine", **facts: Any) -> StateReport:
    return StateReport(
        flow_run_id=run_id, state=state, message=f"now {state}", at=datetime.now(timezone.utc), claim=claim, **facts
    )


def line(run_id: str, number: int, at: datetime) -> LogLine:
    return LogLine(
        flow_run_id=run_id,
        at=at + timedelta(microseconds=number),
        stream="stdout",
        level=20,
        logger="stdout",
        message=f"line {number}",
        line_id=str(number),
    )


def test_it_says_what_it_can_do(backend: Backend) -> None:
    capabilities = backend.connect()
    assert capabilities.arbitrates and capabilities.knows_line_ids and capabilities.wakes


@pytest.mark.parametrize(
    ("run_labels", "agent_labels", "listed"),
    [
        (["a"], ["a", "b"], True),
        (["a", "b"], ["a"], False),
        (["a"], [], False),
        ([], [], True),
        ([], ["a"], False),
    ],
)
def test_runs_are_listed_by_the_label_rule(
    peer: Peer, backend: Backend, run_labels: list[str], agent_labels: list[str], listed: bool
) -> None:
    run_id = peer.add_run(run_labels)
    assert (run_id in [run.id for run in backend.ready_runs(agent_labels, ())]) is listed


def test_a_listed_run_carries_what_is_needed_to_start_it(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"], {"x": [1, "two"]}), ["a"])
    assert (run.state, run.parameters, dict(run.flow.storage)) == (RunState.SCHEDULED, {"x": [1, "two"]}, STORAGE)
    assert run.labels == ("a",)


def test_which_prefect_registered_a_flow_is_read_where_the_server_tells(tmp_path: Path) -> None:
    with running_server(tmp_path / "data") as server:
        peer = OverGraphQL(server.url)
        peer.backend.connect()
        assert ready(peer.backend, peer.add_run(["a"]), ["a"]).flow.core_version == "1.4.1"
        access = peer.backend.engine_access()
        assert access is not None and (access.api, access.endpoint) == (server.url, f"{server.url}/graphql")
        peer.backend.close()
        peer.user.close()


def test_runs_in_the_exclusion_are_not_listed(peer: Peer, backend: Backend) -> None:
    run_id = peer.add_run(["a"])
    assert backend.ready_runs(["a"], {run_id}) == []


def test_a_claimed_run_is_not_listed_and_not_claimed_by_another(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    backend.claim(run, "mine")
    assert backend.ready_runs(["a"], ()) == []
    with pytest.raises(ClaimLost):
        backend.claim(run, "another's")
    stored = backend.stored_states([run.id])[run.id]
    assert (stored.state, stored.claim) == (RunState.SUBMITTED, "mine")


def test_claiming_again_with_the_same_token_is_a_success(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    backend.claim(run, "mine")
    backend.claim(run, "mine")


def test_of_many_simultaneous_claims_one_wins(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    won: list[str] = []

    def claim(token: str) -> None:
        try:
            backend.claim(run, token)
        except ClaimLost:
            return
        won.append(token)

    threads = [threading.Thread(target=claim, args=(str(n),)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert backend.stored_states([run.id])[run.id].claim == won[0]


def test_states_are_reported_from_submitted_to_success(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    backend.claim(run, "mine")
    backend.report(report(run.id, RunState.RUNNING, pid=7))
    backend.report(report(run.id, RunState.SUCCESS))
    stored = backend.stored_states([run.id])[run.id]
    assert (stored.state, stored.message) == (RunState.SUCCESS, "now Success")


def test_the_same_report_again_does_no_harm_and_a_contradiction_is_refused(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    backend.claim(run, "mine")
    for state in (RunState.RUNNING, RunState.RUNNING, RunState.FAILED, RunState.FAILED):
        backend.report(report(run.id, state))
    with pytest.raises(BackendRefused):
        backend.report(report(run.id, RunState.SUCCESS))
    assert backend.stored_states([run.id])[run.id].state is RunState.FAILED


def test_a_user_can_cancel_and_the_agent_can_say_that_it_is_done(peer: Peer, backend: Backend) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    backend.claim(run, "mine")
    backend.report(report(run.id, RunState.RUNNING))
    peer.cancel(run.id)
    assert backend.stored_states([run.id])[run.id].state is RunState.CANCELLING
    backend.report(report(run.id, RunState.CANCELLED))
    assert backend.stored_states([run.id])[run.id].state is RunState.CANCELLED


def test_lines_are_kept_in_order_and_once_when_they_are_sent_again(peer: Peer, backend: Backend) -> None:
    run_id = peer.add_run(["a"])
    at = datetime.now(timezone.utc)
    backend.write_logs([line(run_id, n, at) for n in range(10)])
    backend.write_logs([line(run_id, n, at) for n in range(5, 15)])
    assert peer.log(run_id) == [f"line {n}" for n in range(15)]


def test_lines_of_an_unknown_run_are_refused(backend: Backend) -> None:
    with pytest.raises(BackendRefused):
        backend.write_logs([line(str(uuid.uuid4()), 1, datetime.now(timezone.utc))])


def test_unknown_runs_have_no_stored_state(backend: Backend) -> None:
    assert backend.stored_states([str(uuid.uuid4())]) == {}


def test_a_report_for_an_unknown_run_is_refused(backend: Backend) -> None:
    with pytest.raises(BackendRefused):
        backend.report(report(str(uuid.uuid4()), RunState.SUCCESS))


def test_heartbeats_of_several_runs_are_taken(peer: Peer, backend: Backend) -> None:
    backend.heartbeat([peer.add_run(["a"]), peer.add_run(["a"])])
    backend.heartbeat([])


@pytest.mark.parametrize("event", ["a due run", "a cancelled run"])
def test_a_waiting_agent_is_woken_by(peer: Peer, backend: Backend, event: str) -> None:
    run = ready(backend, peer.add_run(["a"]), ["a"])
    backend.claim(run, "mine")
    backend.report(report(run.id, RunState.RUNNING))
    seen = backend.wait_for_wake(0, 0.0).sequence
    woken: list[int] = []

    def wait() -> None:
        try:
            woken.append(backend.wait_for_wake(seen, 20.0).sequence)
        except BackendError as error:
            woken.append(-1)
            raise error
        finally:
            backend.close()

    waiter = threading.Thread(target=wait)
    waiter.start()
    if event == "a due run":
        peer.add_run(["a"])
    else:
        peer.cancel(run.id)
    wait_until(lambda: woken)
    waiter.join()
    assert woken[0] not in (-1, seen)

"""A flow run that is Running and whose task run waits is claimed through that task run, by one agent only."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flowherd.agent.claims import Claims, holds
from flowherd.agent.connection import Connection
from flowherd.agent.requests import Requests
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.states import RunState
from flowherd.values import AgentIdentity, FlowRun, claim_token, deciding_task_run
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server

LABEL = "taking-again"


class LosesAnswers(GraphQLBackend):
    """A connection that breaks after each claim was carried out."""

    #: Whether a claim reaches the server at all.
    arrives = True
    #: Whether queries about task runs get no answer either.
    silent = False

    def claim(self, flow_run: FlowRun, token: str) -> None:
        if self.arrives:
            super().claim(flow_run, token)
        raise BackendUnavailable("the answer was lost")

    def stored_task_states(self, task_run_ids: Any) -> Any:
        if self.silent:
            raise BackendUnavailable("no answer")
        return super().stored_task_states(task_run_ids)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("taking") / "data") as server:
        yield server


def requests_of(backend: GraphQLBackend) -> Requests:
    return Connection(lambda: backend, lambda _wake: None, lambda: None).requests


def claims_over(backend: GraphQLBackend, identity: str, *, arbitrates: bool = True) -> Claims:
    """The claims of an agent with this identity, at a server that does or does not arbitrate."""
    connection = Connection(lambda: backend, lambda _wake: None, lambda: None)
    connection.capabilities = ServerCapabilities(name="server", arbitrates=arbitrates)
    return Claims(connection, lambda: identity)


def connected(server: ServerProcess, kind: type[GraphQLBackend] = GraphQLBackend) -> GraphQLBackend:
    backend = kind(GraphQLTransport(server.url))
    backend.connect()
    backend.register(AgentIdentity(type="Test", name=str(uuid.uuid4()), labels=(LABEL,)))
    return backend


def task(name: str) -> dict[str, Any]:
    return {"slug": f"{name}-1", "name": name, "type": "prefect.tasks.Task", "tags": [], "mapped": False}


def waiting_run(client: Client, *waits: str, age_s: float = 60.0) -> str:
    """Create a run that is Running, with one task run in each of the states `waits`, due for `age_s`."""
    tasks = [task(f"task{number}") for number in range(len(waits))]
    config = {"type": "LocalRun", "labels": [LABEL]}
    run_id = client.create_run(client.flow(tasks=tasks, storage={"type": "Local"}, run_config=config))
    for state in ("Submitted", "Running"):
        client.report(run_id, state)
    rows = client.run(run_id, "task_runs { id }")["task_runs"]
    due = (datetime.now(timezone.utc) - timedelta(seconds=age_s)).isoformat()
    for row, state in zip(rows, waits, strict=True):
        change = {"type": state, "start_time": due, "message": "waits", "run_count": 1}
        client.do("set_task_run_states", states=[{"task_run_id": row["id"], "version": None, "state": change}])
    return run_id


def listed(backend: GraphQLBackend, run_id: str) -> FlowRun | None:
    return next((run for run in backend.ready_runs([LABEL], ()) if run.id == run_id), None)


def found(backend: GraphQLBackend, run_id: str) -> FlowRun:
    run = listed(backend, run_id)
    assert run is not None, "the run is not listed"
    return run


@pytest.mark.parametrize("waits", ["Scheduled", "Retrying", "Paused", "Resume"])
def test_it_is_handed_out_and_claimed_by_one(server: ServerProcess, waits: str) -> None:
    client, backend = Client(server), connected(server)
    run = found(backend, waiting_run(client, waits))
    backend.claim(run, "mine")
    assert listed(backend, run.id) is None
    with pytest.raises(ClaimLost):
        backend.claim(run, "another's")
    backend.claim(run, "mine")
    assert client.run(run.id)["state"] == "Running"
    deciding = deciding_task_run(run)
    assert deciding is not None
    stored = backend.stored_task_states([deciding.id])[deciding.id]
    assert (stored.state, stored.claim, stored.flow_run_id) == (RunState.SUBMITTED, "mine", run.id)


def test_the_flows_own_process_goes_first(server: ServerProcess) -> None:
    assert listed(connected(server), waiting_run(Client(server), "Retrying", age_s=1.0)) is None


def test_all_waiting_task_runs_are_claimed_together_and_the_first_decides(server: ServerProcess) -> None:
    backend = connected(server)
    run = found(backend, waiting_run(Client(server), "Retrying", "Resume", "Retrying"))
    backend.claim(run, "mine")
    stored = backend.stored_task_states([task_run.id for task_run in run.task_runs])
    assert [state.claim for state in stored.values()] == ["mine"] * 3
    with pytest.raises(ClaimLost):
        backend.claim(run, "another's")


def test_of_many_simultaneous_claims_one_wins(server: ServerProcess) -> None:
    backend = connected(server)
    run = found(backend, waiting_run(Client(server), "Retrying", "Retrying"))
    won: list[str] = []

    def take(token: str) -> None:
        try:
            claims_over(backend, token).take(run)
        except ClaimLost:
            return
        won.append(token)

    threads = [threading.Thread(target=take, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and holds(requests_of(backend), run, claim_token(won[0], run.id))


def test_a_claim_whose_answer_was_lost_is_read_back_from_the_task_run(server: ServerProcess) -> None:
    backend = connected(server, LosesAnswers)
    run = found(backend, waiting_run(Client(server), "Retrying"))
    claims_over(backend, "mine").take(run)
    with pytest.raises(ClaimLost):
        claims_over(backend, "another's").take(run)


def test_a_claim_that_cannot_be_read_back_is_settled_later(server: ServerProcess) -> None:
    backend = LosesAnswers(GraphQLTransport(server.url))
    run = found(backend, waiting_run(Client(server), "Retrying"))
    claims = claims_over(backend, "mine")
    backend.silent = True
    with pytest.raises(BackendUnavailable):
        claims.take(run)
    backend.silent = False
    assert claims.settle(skip={run.id}).won == []
    assert [one.id for one in claims.settle(skip=()).won] == [run.id]
    assert not claims.uncertain


def test_a_claim_that_did_not_arrive_stays_uncertain_and_one_of_another_is_lost(server: ServerProcess) -> None:
    backend = LosesAnswers(GraphQLTransport(server.url))
    backend.arrives = False
    run = found(backend, waiting_run(Client(server), "Retrying"))
    claims = claims_over(backend, "mine")
    with pytest.raises(BackendUnavailable):
        claims.take(run)
    settled = claims.settle(skip=())
    assert (settled.won, settled.lost, list(claims.uncertain)) == ([], [], [run.id])
    connected(server).claim(run, "another's")
    assert [one.id for one, _ in claims.settle(skip=()).lost] == [run.id]
    assert not claims.uncertain


def test_without_arbitration_the_claim_is_read_before_and_after(server: ServerProcess) -> None:
    backend = connected(server)
    run = found(backend, waiting_run(Client(server), "Resume"))
    claims_over(backend, "mine", arbitrates=False).take(run)
    with pytest.raises(ClaimLost):
        claims_over(backend, "another's", arbitrates=False).take(run)
    assert holds(requests_of(backend), run, claim_token("mine", run.id))

"""Lost answers, a busy server, and claims that arrive too late, at a real Prefect 3 server."""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.states import FINISHED, RunState
from flowherd.values import AgentIdentity, FlowRun, LogLine, StateReport
from tests.faults.proxy import Proxy
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

#: Faults after which no request is in progress at the server once the client has seen them.
KINDS = ["refused", "unanswered", "half an answer", "503", "429", "HTML"]
_numbers = itertools.count()


@pytest.fixture
def proxy(prefect: PrefectServer) -> Iterator[Proxy]:
    proxy = Proxy(lambda: prefect.port, seed=3)
    yield proxy
    proxy.close()


@pytest.fixture
def pool() -> str:
    return f"faulty {next(_numbers)}"


@pytest.fixture
def backend(proxy: Proxy, pool: str) -> Iterator[Prefect3Backend]:
    backend = at(f"http://127.0.0.1:{proxy.port}/api", pool)
    backend.connect()
    backend.register(AgentIdentity(type="Test", name="tester", labels=()))
    yield backend
    backend.close()


def at(api: str, pool: str) -> Prefect3Backend:
    transport = Prefect3Transport(api, timeout_s=20)
    return Prefect3Backend(transport, WorkPool(transport, pool))


def retried(call: Callable[[], Any]) -> Any:
    """Repeat the call until it is answered; return its result."""

    def attempt() -> list[Any]:
        try:
            return [call()]
        except BackendUnavailable:
            return []

    return wait_until(attempt, timeout_s=60)[0]


def types(prefect: PrefectServer, run_id: str) -> list[str]:
    rows = prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
    return [row["type"] for row in sorted(rows, key=lambda row: str(row["timestamp"]))]


@pytest.mark.parametrize("kind", KINDS)
def test_claims_and_ends_and_lines_come_once_through_a_storm(
    prefect: PrefectServer, proxy: Proxy, backend: Prefect3Backend, pool: str, kind: str
) -> None:
    deployment, identity = prefect.add_deployment(pool), uuid.uuid4().hex
    runs = {run_id: f"{identity}/{run_id}" for run_id in (prefect.add_run(deployment) for _ in range(4))}
    at_ = datetime.now(timezone.utc)
    proxy.inject(True, only=kind)
    listed = retried(lambda: backend.ready_runs([], ()))
    assert {run.id for run in listed} == set(runs)
    for run in listed:
        claim_through_storm(backend, run, runs[run.id])
        for start in range(0, 40, 10):
            lines = [a_line(run.id, number, at_) for number in range(start, start + 10)]
            retried(partial(backend.write_logs, lines))
        end = StateReport(flow_run_id=run.id, state=RunState.FAILED, message="gone", at=at_, claim=runs[run.id])
        retried(partial(backend.report, end))
    proxy.inject(False)
    assert proxy.injected[kind], "no fault was injected"
    for run_id in runs:
        assert types(prefect, run_id) == ["SCHEDULED", "PENDING", "CRASHED"]
        assert [row["message"] for row in prefect.log(run_id)] == [f"line {number}" for number in range(40)]


def claim_through_storm(backend: Prefect3Backend, run: FlowRun, token: str) -> None:
    """Claim as the agent does: when no answer comes, look up whose claim it is."""
    while True:
        try:
            backend.claim(run, token)
            return
        except BackendUnavailable:
            if retried(lambda: backend.stored_states([run.id]))[run.id].claim == token:
                return


def a_line(run_id: str, number: int, at_: datetime) -> LogLine:
    moment = at_ + timedelta(microseconds=number)
    return LogLine(flow_run_id=run_id, at=moment, stream="stdout", level=20, logger="", message=f"line {number}")


class Interrupted(Prefect3Transport):
    """Do something before it sends a proposal, as if another worker came first."""

    before_proposal: Callable[[], object] = staticmethod(lambda: None)
    #: Whether the answer to a proposal is lost.
    loses_answer = False

    def post(self, path: str, body: Any, *, once: bool = False) -> Any:
        proposes = path.endswith("/set_state") and not body["force"]
        if proposes:
            self.before_proposal()
        answer = super().post(path, body, once=once)
        if proposes and self.loses_answer:
            raise BackendUnavailable("lost")
        return answer


class Belated(Prefect3Transport):
    """Hold its first proposal back until `let_go`, when no one waits for the answer any more."""

    held: tuple[str, Any] | None = None

    def post(self, path: str, body: Any, *, once: bool = False) -> Any:
        if path.endswith("/set_state") and self.held is None:
            self.held = path, body
            raise BackendUnavailable("no answer")
        return super().post(path, body, once=once)

    def let_go(self) -> None:
        assert self.held is not None
        super().post(*self.held)


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "unanswered"])
@pytest.mark.parametrize("end", ["COMPLETED", "FAILED", "CRASHED"])
def test_a_claim_that_came_too_late_is_undone(prefect: PrefectServer, pool: str, end: str, lost: bool) -> None:
    """Another worker claims, runs and finishes between the last look and the claim, which the server then accepts."""
    prefect.add_pool(pool)
    transport = Interrupted(prefect.api, timeout_s=20)
    transport.loses_answer = lost
    backend = Prefect3Backend(transport, WorkPool(transport, pool))
    run_id = prefect.add_run(prefect.add_deployment(pool))
    (run,) = backend.ready_runs([], ())

    def elsewhere() -> None:
        started_s = time.monotonic()
        for state in ("PENDING", "RUNNING", end):
            prefect.set_state(run_id, state, message="by another")
        wait_until(lambda: time.monotonic() > started_s + 0.15)  # no run is quicker

    transport.before_proposal = elsewhere
    with pytest.raises(BackendUnavailable if lost else ClaimLost, match=r"lost|ran elsewhere"):
        backend.claim(run, "mine")
    stored = backend.stored_states([run_id])[run_id]  # as the agent asks when no answer comes
    assert (stored.state in FINISHED, stored.claim) == (True, None)
    row = prefect.run(run_id)
    assert (row["state"]["type"], row["state"]["message"], row["run_count"]) == (end, "by another", 1)
    assert types(prefect, run_id) == ["SCHEDULED", "PENDING", "RUNNING", end, "PENDING", end]
    backend.close()


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
def test_the_claim_of_an_agent_that_died_is_made_sure_of_by_the_next(
    prefect: PrefectServer, pool: str, late: bool
) -> None:
    prefect.add_pool(pool)
    transport = Interrupted(prefect.api, timeout_s=20)
    transport.loses_answer = True
    backend = Prefect3Backend(transport, WorkPool(transport, pool))
    run_id = prefect.add_run(prefect.add_deployment(pool))
    token = f"{uuid.uuid4().hex}/{run_id}"
    (run,) = backend.ready_runs([], ())

    def elsewhere() -> None:
        for state in ("PENDING", "RUNNING", "COMPLETED"):
            prefect.set_state(run_id, state, message="by another")

    if late:
        transport.before_proposal = elsewhere
    with pytest.raises(BackendUnavailable):
        backend.claim(run, token)
    backend.close()
    following = at(prefect.api, pool)
    stored = following.stored_states([run_id])[run_id]
    assert (stored.state, stored.claim) == (RunState.SUBMITTED, token)
    if late:
        with pytest.raises(ClaimLost, match="ran elsewhere"):
            following.confirm_claim(run_id, token)
    else:
        following.confirm_claim(run_id, token)
    assert prefect.state(run_id) == ("COMPLETED" if late else "PENDING")
    following.close()


def test_a_claim_that_arrives_long_after_it_was_given_up_is_undone(prefect: PrefectServer, pool: str) -> None:
    """Its sender has asked meanwhile, has seen that another worker has the run, and has given it up."""
    prefect.add_pool(pool)
    transport = Belated(prefect.api, timeout_s=20)
    backend = Prefect3Backend(transport, WorkPool(transport, pool))
    run_id = prefect.add_run(prefect.add_deployment(pool))
    (run,) = backend.ready_runs([], ())
    with pytest.raises(BackendUnavailable):
        backend.claim(run, "mine")
    prefect.set_state(run_id, "PENDING")
    assert backend.stored_states([run_id])[run_id].claim != "mine"
    prefect.set_state(run_id, "RUNNING")
    prefect.set_state(run_id, "COMPLETED", message="by another")
    transport.let_go()
    assert prefect.state(run_id) == "PENDING"
    backend.ready_runs([], ())
    row = prefect.run(run_id)
    assert (row["state"]["type"], row["state"]["message"], row["run_count"]) == ("COMPLETED", "by another", 1)
    backend.close()


@pytest.mark.parametrize("asked", [True, False], ids=["given up", "under way"])
def test_a_claim_that_arrives_after_its_agent_died_is_undone_by_the_next(
    prefect: PrefectServer, pool: str, tmp_path: Path, asked: bool
) -> None:
    prefect.add_pool(pool)
    transport = Belated(prefect.api, timeout_s=20)
    backend = Prefect3Backend(transport, WorkPool(transport, pool), state_dir=tmp_path)
    run_id = prefect.add_run(prefect.add_deployment(pool))
    (run,) = backend.ready_runs([], ())
    with pytest.raises(BackendUnavailable):
        backend.claim(run, "mine")
    prefect.set_state(run_id, "PENDING")
    if asked:
        assert backend.stored_states([run_id])[run_id].claim != "mine"
    backend.close()  # and nothing else: it was killed
    plain = Prefect3Transport(prefect.api, timeout_s=20)
    following = Prefect3Backend(plain, WorkPool(plain, pool), state_dir=tmp_path)
    following.ready_runs([], ())
    prefect.set_state(run_id, "RUNNING")
    prefect.set_state(run_id, "COMPLETED", message="by another")
    transport.let_go()
    assert prefect.state(run_id) == "PENDING"
    following.ready_runs([], ())
    row = prefect.run(run_id)
    assert (row["state"]["type"], row["state"]["message"], row["run_count"]) == ("COMPLETED", "by another", 1)
    assert json.loads((tmp_path / "claims.json").read_text())["claims"] == []
    following.close()


def test_a_claim_that_another_won_meanwhile_is_lost(prefect: PrefectServer, pool: str) -> None:
    prefect.add_pool(pool)
    transport = Interrupted(prefect.api, timeout_s=20)
    backend = Prefect3Backend(transport, WorkPool(transport, pool))
    run_id = prefect.add_run(prefect.add_deployment(pool))
    (run,) = backend.ready_runs([], ())
    transport.before_proposal = lambda: prefect.set_state(run_id, "PENDING")
    with pytest.raises(ClaimLost, match="not given to us"):
        backend.claim(run, "mine")
    assert types(prefect, run_id) == ["SCHEDULED", "PENDING"]
    backend.close()

"""Flow runs that a backend offers by itself: claimed and deployed at once, each once, whatever the polls find."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from dataclasses import replace
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.agent.agent import Agent
from flowherd.backends.memory import MemoryBackend
from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendUnavailable, ClaimLost
from flowherd.states import RunState
from flowherd.values import Claim, FlowRun, Wake
from tests.support.agents import COMMAND, RecordingAgent, going
from tests.support.waiting import wait_until

#: Pauses between polls, seconds: no test waits for a poll that nothing has caused.
SELDOM = {0: 3600.0}


class Offering(MemoryBackend):
    """Hands its runs out by offers; its polls find nothing unless `listed` is set, and are recorded with their room."""

    def __init__(self) -> None:
        super().__init__()
        self.news: SimpleQueue[Wake | None] = SimpleQueue()
        self.listed: list[FlowRun] = []
        self.rooms: list[int | None] = []
        self.asked_by: list[str] = []
        self.claimed: list[list[str]] = []
        self.claimed_by: set[str] = set()
        self.away = False
        self._numbers = iter(range(1, 1000))

    def connect(self) -> ServerCapabilities:
        return replace(super().connect(), shares=True)

    def offered_runs(self, labels: Sequence[str], exclude: Collection[str], room: int | None) -> list[FlowRun]:
        self.rooms.append(room)
        self.asked_by.append(threading.current_thread().name)
        return [] if room == 0 else list(self.listed)

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        self.claimed.append([claim.flow_run.id for claim in claims])
        self.claimed_by.add(threading.current_thread().name)
        if self.away:
            raise BackendUnavailable("away")
        outcomes: dict[str, str | None] = {}
        for claim in claims:
            try:
                self.claim(claim.flow_run, claim.token)
                outcomes[claim.flow_run.id] = None
            except ClaimLost as error:
                outcomes[claim.flow_run.id] = str(error)
        return outcomes

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        try:
            news = self.news.get(timeout=timeout_s)
        except Empty:
            news = None
        return news or Wake(sequence=seen, offered=())

    def close(self) -> None:
        self.news.put(None)

    def offer(self, count: int = 1, storage: Any = None) -> list[FlowRun]:
        """Offer so many new runs at once."""
        ids = [self.add_run(storage or COMMAND) for _ in range(count)]
        found = [run for run in self.ready_runs([], ()) if run.id in ids]
        self.offer_again(found)
        return found

    def offer_again(self, runs: Sequence[FlowRun]) -> None:
        """Offer these runs as they are."""
        self.news.put(Wake(sequence=next(self._numbers), work=False, ends=False, offered=tuple(runs)))


class Recording(RecordingAgent):
    """Polls only when something causes it."""

    def start(self, _loop_intervals: dict[int, float] | None = None) -> None:
        super().start(SELDOM)


class Forking(LocalAgent):
    """Likewise."""

    def start(self, _loop_intervals: dict[int, float] | None = None) -> None:
        super().start(SELDOM)


@pytest.fixture
def backend() -> Offering:
    return Offering()


@contextmanager
def polled_once(agent: Agent, backend: Offering) -> Iterator[Any]:
    """The agent, after its first poll; no other follows unless something causes it."""
    with going(agent) as running:
        wait_until(lambda: backend.rooms)
        yield running


def test_an_offered_run_is_claimed_where_it_was_heard_of_and_several_in_one_request(backend: Offering) -> None:
    with polled_once(Recording(backend=backend), backend) as agent:
        (run,) = backend.offer()
        wait_until(lambda: agent.deployed == [run.id] and not agent.submitting_flow_runs)
        assert backend.claimed_by == {"wake"}
        several = [one.id for one in backend.offer(5)]
        wait_until(lambda: len(agent.deployed) == 6 and not agent.submitting_flow_runs)
    assert backend.claimed == [[run.id], several]
    assert len(backend.rooms) <= 1 + 1  # the first poll, and the last request, by which an agent that stops declines


@pytest.mark.parametrize("method", ["update_state", "deploy_and_update_flow_run", "query_flow_runs", "agent_process"])
def test_an_overridden_method_is_called_for_offered_runs_too(backend: Offering, method: str) -> None:
    calls = []

    class Own(Recording):
        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name)

    def own(self: Any, *args: Any) -> Any:
        calls.append(args)
        return getattr(super(Own, self), method)(*args)

    setattr(Own, method, own)
    with polled_once(Own(backend=backend), backend) as agent:
        calls.clear()
        backend.listed = backend.offer()
        wait_until(lambda: len(agent.deployed) == 1)
    assert calls
    assert "wake" not in backend.claimed_by


def test_the_hook_after_an_attempt_is_called_for_offered_runs(backend: Offering) -> None:
    class Hooked(Recording):
        attempts: tuple[str, ...] = ()

        def on_flow_run_deploy_attempt(self, fut: Future[None], flow_run_id: str) -> None:
            self.attempts += (flow_run_id,)
            super().on_flow_run_deploy_attempt(fut, flow_run_id)

    with polled_once(Hooked(backend=backend), backend) as agent:
        (run,) = backend.offer()
        wait_until(lambda: agent.attempts == (run.id,))


def test_a_poll_and_an_offer_that_name_the_same_run_start_it_once(backend: Offering) -> None:
    deploying, go_on = threading.Event(), threading.Event()

    class Slow(Recording):
        def deploy_flow(self, flow_run: FlowRun) -> str:
            deploying.set()
            go_on.wait(20)
            return super().deploy_flow(flow_run)

    with polled_once(Slow(backend=backend), backend) as agent:
        backend.listed = backend.offer()
        assert deploying.wait(20)
        polls = len(backend.rooms)
        agent.poke()  # finds the run that is being deployed
        wait_until(lambda: len(backend.rooms) > polls)
        go_on.set()
        wait_until(lambda: agent.deployed and not agent.submitting_flow_runs)
        polls = len(backend.rooms)
        agent.poke()  # finds it as it was before the claim
        wait_until(lambda: len(backend.rooms) > polls)
        backend.offer_again(backend.listed)  # and so does an offer, which leads to a poll
        wait_until(lambda: len(backend.rooms) > polls + 1)
        (other,) = backend.offer()
        wait_until(lambda: other.id in agent.deployed)
    assert agent.deployed == [backend.listed[0].id, other.id]
    assert backend.claimed == [[backend.listed[0].id], [other.id]]


def test_a_start_that_waits_keeps_no_news_from_being_heard(backend: Offering) -> None:
    waits, go_on = threading.Event(), threading.Event()

    class Waiting(Recording):
        def deploy_flow(self, flow_run: FlowRun) -> str:
            if not waits.is_set():
                waits.set()
                go_on.wait(20)
            return super().deploy_flow(flow_run)

    with polled_once(Waiting(backend=backend), backend) as agent:
        (first,) = backend.offer()
        assert waits.wait(20)
        for _ in range(2):
            (other,) = backend.offer()
            wait_until(lambda other=other: other.id in agent.deployed)
        go_on.set()
        wait_until(lambda: first.id in agent.deployed and not agent.submitting_flow_runs)


def test_an_offer_without_room_is_declined_at_once(backend: Offering) -> None:
    sleeping = {"type": "Command", "argv": ["sleep", "3600"]}
    with polled_once(Forking(hostname_label=False, limit=1, backend=backend), backend) as agent:
        (first,) = backend.offer(storage=sleeping)
        wait_until(lambda: backend.state(first.id) is RunState.RUNNING)
        (second,) = backend.offer(storage=sleeping)
        wait_until(lambda: backend.rooms[-1] == 0)
        agent.control.usual_stop = "cancel"
    assert backend.claimed == [[first.id]]
    assert backend.state(second.id) is RunState.SCHEDULED


def test_the_end_of_a_run_makes_an_agent_with_a_limit_ask_for_more_without_a_poll(backend: Offering) -> None:
    polls = []

    class Polling(Forking):
        def heartbeat(self) -> None:
            polls.append(1)
            super().heartbeat()

    with polled_once(Polling(hostname_label=False, limit=1, backend=backend), backend):
        backend.listed = [*backend.offer(), *backend.offer()][1:]
        wait_until(lambda: backend.state(backend.listed[0].id) is RunState.SUCCESS)
        beside = [thread for thread in backend.asked_by if thread.startswith("deploy")]
    assert beside
    assert (
        len(polls) <= 2
    )  # the first; and the one that declines the second offer, if it came while the first run lived


def test_a_paused_agent_declines_offers(backend: Offering) -> None:
    with polled_once(Recording(backend=backend), backend) as agent:
        agent.control.pause()
        backend.offer()
        wait_until(lambda: backend.rooms[-1] == 0)
        agent.control.resume()
        (run,) = backend.offer()
        wait_until(lambda: agent.deployed == [run.id])


def test_with_a_number_of_polls_only_polls_start_runs(backend: Offering) -> None:
    with polled_once(Recording(backend=backend, max_polls=2), backend) as agent:
        backend.listed = backend.offer()
        wait_until(lambda: agent.deployed == [backend.listed[0].id])
    assert "wake" not in backend.claimed_by


def test_a_claim_without_an_answer_is_looked_up_by_a_poll(backend: Offering) -> None:
    with polled_once(Recording(backend=backend), backend) as agent:
        backend.away = True
        backend.listed = backend.offer()
        wait_until(lambda: len(backend.claimed) > 1)  # the poll finds it again
        backend.away = False
        agent.poke()
        wait_until(lambda: agent.deployed == [backend.listed[0].id])


def test_an_agent_that_stops_begins_nothing_more(backend: Offering) -> None:
    executors: list[Executor] = []

    class Stopping(Recording):
        def on_shutdown(self) -> None:
            self._own_woken(Wake(sequence=-1, offered=tuple(backend.ready_runs([], ()))))
            executors.append(self._own_loop.executor)  # type: ignore[arg-type]

    agent = Stopping(backend=backend)
    with polled_once(agent, backend):
        backend.add_run(COMMAND)
    assert executors
    assert (agent.deployed, backend.claimed) == ([], [])

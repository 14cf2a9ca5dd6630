"""Waking agents that wait for work: each agent has a sequence number, which grows when there is something for it.

A run that is due wakes the one agent that it is offered to (offers.py), and others once the offer has passed on.
Agents that wait over the lane are subscribers (subscribers.py), which most offers reach without the board.

Used in the event loop's thread only; `is_connected` and `offered` may be called from any thread. Knows no HTTP and no
database.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from flowherd_server.call import Effects
from flowherd_server.label_rule import labels_match
from flowherd_server.offers import DueRun, OfferBook, Passed
from flowherd_server.runs.subscribers import Subscribers
from flowherd_server.store.microseconds import SECOND_US, now_us

#: How long an agent counts as connected after a wait, seconds: it is doing what it was woken for.
GRACE_S = 2.0
#: An agent is forgotten after this time without a wait, seconds; if it comes back, its first wait returns at once.
_FORGET_S = 120.0
#: Longest timer, seconds, because the wall clock may be set while a timer runs.
_LONGEST_TIMER_S = 10.0
#: Room of an agent that does not say for how many runs it has room: each wake is for one run.
_UNKNOWN_ROOM = 1


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """An agent that waits, as its request names it."""

    agent_id: str
    labels: Iterable[str]
    #: What tells it from other agents, which may be registered under the same id; empty if it does not ask for offers.
    holder: str = ""
    #: For how many runs it had room when it last asked; None means any number.
    room: int | None = _UNKNOWN_ROOM

    @property
    def key(self) -> str:
        """What offers to it are made under."""
        return self.holder or self.agent_id


@dataclass
class _Agent:
    """An agent that waits, or did a short time ago."""

    agent_id: str
    labels: frozenset[str]
    sequence: int
    #: What `sequence` became when one of its runs last had to be looked at.
    ends_sequence: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Number of waits that are open now.
    waits: int = 0
    #: End of its last wait (monotonic).
    left_at: float = 0.0

    def wake(self, *, ends: bool) -> None:
        self.sequence += 1
        if ends:
            self.ends_sequence = self.sequence
        self.changed.set()
        self.changed = asyncio.Event()


class News(NamedTuple):
    """What an agent's wait is answered."""

    sequence: int
    #: Whether one of its runs may have to stop.
    ends: bool


class WakeBoard:
    """Wakes agents when a run is due for them, when one of their runs must stop, or on request (`poke`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, offers: OfferBook, subscribers: Subscribers) -> None:
        self._loop = loop
        self._offers = offers
        self._subscribers = subscribers
        #: The agents by their keys (`Waiter.key`).
        self._agents: dict[str, _Agent] = {}
        # Runs that become due later, soonest first. One that was claimed or cancelled meanwhile wakes agents in vain.
        self._later: list[tuple[int, DueRun]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._lapse_timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    def is_connected(self, agent_id: str) -> bool:
        """Return whether the agent waits now, or did until a moment ago."""
        now_s = time.monotonic()
        agents = (agent for agent in list(self._agents.values()) if agent.agent_id == agent_id)
        if any(agent.waits > 0 or now_s - agent.left_at < GRACE_S for agent in agents):
            return True
        return self._subscribers.is_connected(agent_id)

    async def wait(self, waiter: Waiter, seen: int, timeout_s: float) -> News:
        """Return the news once the agent's number differs from `seen`, after `timeout_s`, or when the board closes."""
        agent = self._agent(waiter)
        if agent.sequence != seen or self._closed.is_set():
            agent.left_at = time.monotonic()
        else:
            with self._waiting(agent, waiter):
                await self._change(agent, timeout_s)
        return News(agent.sequence, agent.ends_sequence > seen or seen > agent.sequence)

    def gone(self, waiter: Waiter) -> None:
        """Note that the connection of an agent broke while it waited: what it was offered is for others."""
        self._pass_on(self._offers.leave(waiter.key))

    @contextlib.contextmanager
    def _waiting(self, agent: _Agent, waiter: Waiter) -> Iterator[None]:
        agent.waits += 1
        self._offers.begin_wait(waiter.key, agent.labels, waiter.room)
        try:
            yield
        finally:
            agent.waits -= 1
            agent.left_at = time.monotonic()
            self._offers.end_wait(waiter.key)

    async def _change(self, agent: _Agent, timeout_s: float) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (agent.changed, self._closed)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _agent(self, waiter: Waiter) -> _Agent:
        agent = self._agents.get(waiter.key)
        if agent is None:
            self._forget_absent()
            # Never a number that was given out before, even by an earlier server, so a first wait returns at once.
            now = now_us()
            agent = _Agent(waiter.agent_id, frozenset(waiter.labels), sequence=now, ends_sequence=now)
            self._agents[waiter.key] = agent
        return agent

    def _forget_absent(self) -> None:
        limit = time.monotonic() - _FORGET_S
        for key in [key for key, agent in self._agents.items() if not agent.waits and agent.left_at < limit]:
            del self._agents[key]

    def apply(self, effects: Effects, offered_to: Iterable[str] = ()) -> None:
        """Wake the agents that the effects of an operation concern, now or when a run is due.

        `offered_to` are keys of agents that were offered a run already.
        """
        for key in offered_to:
            if key in self._agents:
                self._agents[key].wake(ends=False)
        if effects.agents:
            for agent in self._agents.values():
                if agent.agent_id in effects.agents:
                    agent.wake(ends=True)
        for at_us, run in effects.due:
            heapq.heappush(self._later, (at_us, run._replace(labels=tuple(run.labels))))
        if effects.due:
            self._wake_due()

    def wake_for_live(self, agent_ids: Collection[str]) -> None:
        """Wake the agents with these ids, because they are asked something beside runs."""
        for agent in self._agents.values():
            if agent.agent_id in agent_ids:
                agent.wake(ends=False)

    def poke(self) -> int:
        """Wake all agents. Returns how many are connected."""
        for agent in self._agents.values():
            agent.wake(ends=True)
        self._subscribers.wake_all()
        known = {agent.agent_id for agent in self._agents.values()} | self._subscribers.agent_ids()
        return sum(map(self.is_connected, known))

    def offered(self, passed: Iterable[Passed]) -> None:
        """Note that the offers have changed, and wake agents for the runs that passed on. For any thread."""
        passed = list(passed)
        if passed or self._lapse_timer is None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, so no agent waits
                self._loop.call_soon_threadsafe(self._pass_on, passed)

    def close(self) -> None:
        """End all waits, present and future ones."""
        self._closed.set()
        for timer in (self._timer, self._lapse_timer):
            if timer is not None:
                timer.cancel()

    def _wake_due(self) -> None:
        now = now_us()
        subscribed: dict[str, list[DueRun]] = {}
        while self._later and self._later[0][0] <= now:
            run = heapq.heappop(self._later)[1]
            key = self._offers.assign(run)
            if key is None:  # none of those that wait has room: wake all that may have some
                self._wake_matching([Passed(run=run)])
            elif key in self._agents:
                self._agents[key].wake(ends=False)
            elif key:
                subscribed.setdefault(key, []).append(run)
        if subscribed:  # it reads the database, so not here
            self._loop.run_in_executor(None, self._subscribers.offer, subscribed)
        self._arm(now)
        self._arm_lapse()

    def _wake_matching(self, runs: Iterable[Passed]) -> None:
        kinds = {(one.holder, tuple(one.run.labels)) for one in runs}
        for key, agent in self._agents.items():
            matches = any(holder != key and labels_match(labels, agent.labels) for holder, labels in kinds)
            if matches and self._offers.may_have_room(key):
                agent.wake(ends=False)
        if kinds:
            self._subscribers.wake_matching(kinds)

    def _pass_on(self, passed: Iterable[Passed] = ()) -> None:
        self._wake_matching([*passed, *self._offers.lapse()])
        self._arm_lapse()

    def _lapse(self) -> None:
        self._lapse_timer = None
        self._pass_on()

    def _arm(self, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and not self._closed.is_set():
            delay_s = min((self._later[0][0] - now) / SECOND_US, _LONGEST_TIMER_S)
            self._timer = self._loop.call_later(delay_s, self._wake_due)

    def _arm_lapse(self) -> None:
        """Have `_lapse` called when the next offer ends. Offers last equally long, so no later one ends sooner."""
        at_s = self._offers.next_lapse_s() if self._lapse_timer is None else None
        if at_s is not None and not self._closed.is_set():
            self._lapse_timer = self._loop.call_later(max(0.0, at_s - time.monotonic()), self._lapse)

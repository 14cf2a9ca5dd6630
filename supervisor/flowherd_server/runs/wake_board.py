"""Waking agents that wait for work: each agent has a sequence number, which grows when there is something for it.

Used in the event loop's thread only; `is_connected` may be called from any thread. Knows no HTTP and no database.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flowherd_server.call import Effects
from flowherd_server.runs.labels import labels_match
from flowherd_server.store.microseconds import SECOND_US, now_us

#: How long an agent counts as connected after a wait, seconds: it is doing what it was woken for.
GRACE_S = 2.0
#: An agent is forgotten after this time without a wait, seconds; if it comes back, its first wait returns at once.
_FORGET_S = 120.0
#: Longest timer, seconds, because the wall clock may be set while a timer runs.
_LONGEST_TIMER_S = 10.0


@dataclass
class _Agent:
    """An agent that waits, or did a short time ago."""

    labels: frozenset[str]
    sequence: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    #: Number of waits that are open now.
    waits: int = 0
    #: End of its last wait (monotonic).
    left_at: float = 0.0

    def wake(self) -> None:
        self.sequence += 1
        self.changed.set()
        self.changed = asyncio.Event()


class WakeBoard:
    """Wakes agents when a run is due for them, when one of their runs must stop, or on request (`poke`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._agents: dict[str, _Agent] = {}
        # Runs that become due later, soonest first. One that was claimed or cancelled meanwhile wakes agents in vain.
        self._later: list[tuple[int, tuple[str, ...]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    def is_connected(self, agent_id: str) -> bool:
        """Return whether the agent waits now, or did until a moment ago."""
        agent = self._agents.get(agent_id)
        return agent is not None and (agent.waits > 0 or time.monotonic() - agent.left_at < GRACE_S)

    async def wait(self, agent_id: str, labels: Iterable[str], seen: int, timeout_s: float) -> int:
        """Return the agent's number once it differs from `seen`, after `timeout_s`, or when the board closes."""
        agent = self._agent(agent_id, labels)
        agent.waits += 1
        try:
            if agent.sequence == seen and not self._closed.is_set():
                await self._change(agent, timeout_s)
            return agent.sequence
        finally:
            agent.waits -= 1
            agent.left_at = time.monotonic()

    async def _change(self, agent: _Agent, timeout_s: float) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (agent.changed, self._closed)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _agent(self, agent_id: str, labels: Iterable[str]) -> _Agent:
        agent = self._agents.get(agent_id)
        if agent is None:
            self._forget_absent()
            # Never a number that was given out before, even by an earlier server, so a first wait returns at once.
            agent = self._agents[agent_id] = _Agent(frozenset(labels), sequence=now_us())
        return agent

    def _forget_absent(self) -> None:
        limit = time.monotonic() - _FORGET_S
        for agent_id in [key for key, agent in self._agents.items() if not agent.waits and agent.left_at < limit]:
            del self._agents[agent_id]

    def apply(self, effects: Effects) -> None:
        """Wake the agents that the effects of an operation concern, now or when a run is due."""
        for agent_id in effects.agents:
            if agent_id in self._agents:
                self._agents[agent_id].wake()
        for at_us, labels in effects.due:
            heapq.heappush(self._later, (at_us, tuple(labels)))
        if effects.due:
            self._wake_due()

    def poke(self) -> int:
        """Wake all agents. Returns how many are connected."""
        for agent in self._agents.values():
            agent.wake()
        return sum(self.is_connected(agent_id) for agent_id in self._agents)

    def close(self) -> None:
        """End all waits, present and future ones."""
        self._closed.set()
        if self._timer is not None:
            self._timer.cancel()

    def _wake_due(self) -> None:
        now = now_us()
        due: set[tuple[str, ...]] = set()
        while self._later and self._later[0][0] <= now:
            due.add(heapq.heappop(self._later)[1])
        if due:
            self._wake_matching(due)
        self._arm(now)

    def _wake_matching(self, due: Iterable[Sequence[str]]) -> None:
        for agent in self._agents.values():
            if any(labels_match(labels, agent.labels) for labels in due):
                agent.wake()

    def _arm(self, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and not self._closed.is_set():
            delay_s = min((self._later[0][0] - now) / SECOND_US, _LONGEST_TIMER_S)
            self._timer = self._loop.call_later(delay_s, self._wake_due)

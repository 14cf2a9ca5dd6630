"""Who waits for what: every waiting agent has a number, and it grows when there is something for that agent.

Belongs to the event loop's thread; `is_connected` alone may be asked from any. Knows no HTTP and no database.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from flowherd_server.graphql.operations import Effects
from flowherd_server.runs.labels import labels_match
from flowherd_server.store.times import SECOND_US, now_us

#: Between two waits an agent does what it was woken for; so long it still counts as connected.
GRACE_S = 2.0
#: An agent that was not heard of for so long is forgotten; when it comes back it is told to look at once.
_FORGET_S = 120.0
#: The wall clock may be set while a timer runs; so often it is looked at again.
_LONGEST_TIMER_S = 10.0


@dataclass
class _Seat:
    """One agent's place."""

    labels: frozenset[str]
    sequence: int
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waits: int = 0
    #: Monotonic; when its last wait ended.
    left_at: float = 0.0

    def wake(self) -> None:
        self.sequence += 1
        self.changed.set()
        self.changed = asyncio.Event()


class WakeBoard:
    """Wakes agents when a run is due for them, when one of their runs is to end, or when somebody pokes."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seats: dict[str, _Seat] = {}
        # Runs that become due later, soonest first; one that was taken or cancelled meanwhile wakes for nothing.
        self._later: list[tuple[int, tuple[str, ...]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()

    def is_connected(self, agent_id: str) -> bool:
        """Whether the agent waits now, or did until a moment ago."""
        seat = self._seats.get(agent_id)
        return seat is not None and (seat.waits > 0 or time.monotonic() - seat.left_at < GRACE_S)

    def knows(self, agent_id: str) -> bool:
        """Whether the agent has a place, so that its labels need not be looked up."""
        return agent_id in self._seats

    async def wait(self, agent_id: str, labels: Iterable[str], seen: int, timeout_s: float) -> int:
        """The agent's number as soon as it is not `seen`, or after `timeout_s`, or when the board closes."""
        seat = self._seat(agent_id, labels)
        seat.waits += 1
        try:
            if seat.sequence == seen and not self._closed.is_set():
                await self._change(seat, timeout_s)
            return seat.sequence
        finally:
            seat.waits -= 1
            seat.left_at = time.monotonic()

    async def _change(self, seat: _Seat, timeout_s: float) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (seat.changed, self._closed)]
        try:
            await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _seat(self, agent_id: str, labels: Iterable[str]) -> _Seat:
        seat = self._seats.get(agent_id)
        if seat is None:
            self._forget_absent()
            # Never a number that was given out before, by an earlier server either: who returns looks at once.
            seat = self._seats[agent_id] = _Seat(frozenset(labels), sequence=now_us())
        return seat

    def _forget_absent(self) -> None:
        limit = time.monotonic() - _FORGET_S
        for agent_id in [key for key, seat in self._seats.items() if not seat.waits and seat.left_at < limit]:
            del self._seats[agent_id]

    def apply(self, effects: Effects) -> None:
        """Wake whom the effects of an operation concern, now or when it is time."""
        for agent_id in effects.agents:
            if agent_id in self._seats:
                self._seats[agent_id].wake()
        for at_us, labels in effects.due:
            heapq.heappush(self._later, (at_us, tuple(labels)))
        if effects.due:
            self._wake_due()

    def poke(self) -> int:
        """Wake all agents; how many are connected."""
        for seat in self._seats.values():
            seat.wake()
        return sum(self.is_connected(agent_id) for agent_id in self._seats)

    def close(self) -> None:
        """End all waits, and those that come yet."""
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
        for seat in self._seats.values():
            if any(labels_match(labels, seat.labels) for labels in due):
                seat.wake()

    def _arm(self, now: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later and not self._closed.is_set():
            delay_s = min((self._later[0][0] - now) / SECOND_US, _LONGEST_TIMER_S)
            self._timer = self._loop.call_later(delay_s, self._wake_due)

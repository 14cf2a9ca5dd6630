"""Which threads answer a request, so that slow questions never take those of claims, heartbeats and logs.

A thread that reads has a database connection of its own (store/database.py). /health needs neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio
from anyio import to_thread

T = TypeVar("T")

#: Threads for changes, of which the database lets in one at a time.
_CHANGES = 8
#: Threads for what agents read.
_AGENTS = 8
#: Threads for all other questions. Two cores have no use for more.
_QUESTIONS = 4


class Lanes:
    """The server's threads. Must be made in the event loop."""

    def __init__(self) -> None:
        self.changes = anyio.CapacityLimiter(_CHANGES)
        self.agents = anyio.CapacityLimiter(_AGENTS)
        self.questions = anyio.CapacityLimiter(_QUESTIONS)

    def of_reader(self, is_agent: bool) -> anyio.CapacityLimiter:
        """Return the lane of a request that only reads."""
        return self.agents if is_agent else self.questions


async def run_in(lane: anyio.CapacityLimiter, function: Callable[..., T], *arguments: object) -> T:
    """Call a function in one of the lane's threads, once one is free."""
    return await to_thread.run_sync(function, *arguments, limiter=lane)


class Room:
    """A number of things of which only so many may be held at once. For the event loop's thread."""

    def __init__(self, size: int) -> None:
        self._free = size

    @contextmanager
    def share(self) -> Iterator[Callable[[int], bool]]:
        """Yield a function that takes a number of them, or returns False; the end of the block gives them back."""
        held = 0

        def take(count: int) -> bool:
            nonlocal held
            if count > self._free:
                return False
            self._free -= count
            held += count
            return True

        try:
            yield take
        finally:
            self._free += held

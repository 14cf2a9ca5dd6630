"""News for an agent over the lane: the server pushes the flow runs that it offers, and that something else has come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowherd.backends.graphql.lane_pool import LanePool
from flowherd.errors import BackendUnavailable
from flowherd.lane.client import LaneClient, LaneClosed, LaneRefused
from flowherd.lane.frames import Frame
from flowherd.lane.messages import FOLLOWED, LIVE, OFFER
from flowherd.story.live_news import read_live_news
from flowherd.values import FlowRun, Wake

_SUBSCRIBE, _STATES = "subscribe", "states"


class LaneWakes:
    """One subscription to the server's pushes; waits in the thread that asks, for one thread.

    `who` returns what a subscription says of the agent. `read` returns the flow runs of the rows of an offer.
    """

    def __init__(
        self,
        pool: LanePool,
        who: Callable[[], Mapping[str, Any]],
        room: Callable[[], int | None],
        read: Callable[[Sequence[Any]], Sequence[FlowRun]],
    ) -> None:
        self._pool = pool
        self._who = who
        self._room = room
        self._read = read
        self._lock = threading.Lock()
        self._lane: LaneClient | None = None
        self._closed = False
        #: Grows with each news that is handed on.
        self._sequence = 0
        #: Ids of the flow runs whose lines somebody waits for at the server.
        self.followed: frozenset[str] = frozenset()

    def wait(self, timeout_s: float) -> Wake | None:
        """Return the next news; without any within `timeout_s`, one that has neither work nor ends.

        None if the server has no lane now that pushes. Raises BackendUnavailable when the server does not answer.
        """
        if self._lane is None:
            return self._subscribe()
        lane = self._lane
        try:
            first = lane.wait_for_push(timeout_s)
            if first is None:
                lane.request(_STATES, flow_run_ids=[])  # shows that the server is there
                return Wake(sequence=self._sequence, work=False, ends=False, offered=())
            pushes = [first, *lane.pushes]
            lane.pushes.clear()
        except LaneRefused:
            self.drop()
            return None
        except LaneClosed as error:
            self.drop()
            if isinstance(error.__cause__, TimeoutError):
                raise BackendUnavailable(str(error)) from error
            return None
        return self._news(pushes)

    def drop(self) -> None:
        """End the subscription; the next wait makes another."""
        with self._lock:
            lane, self._lane = self._lane, None
        self.followed = frozenset()
        if lane is not None:
            lane.close()

    def close(self) -> None:
        """End the subscription; a wait in another thread ends at once."""
        self._closed = True
        self.drop()

    def _subscribe(self) -> Wake | None:
        lane = None if self._closed else self._pool.open()
        if lane is None:
            return None
        try:
            lane.request(_SUBSCRIBE, room=self._room(), **self._who())
        except (LaneClosed, LaneRefused):
            lane.close()
            return None
        with self._lock:
            self._lane = lane
        return self._next(work=True, ends=True)  # whatever has come before

    def _news(self, pushes: Sequence[Frame]) -> Wake:
        rows = [row for push in pushes if push.head["push"] == OFFER for row in _listed(push, "flow_runs")]
        others = [push for push in pushes if push.head["push"] != OFFER]
        for push in others:
            if push.head["push"] == FOLLOWED:
                self.followed = frozenset(map(str, _listed(push, "flow_run_ids")))
        lives = [push.head for push in others if push.head["push"] == LIVE]
        return self._next(
            live=read_live_news(lives[-1]) if lives else None,
            offered=tuple(self._read(rows)),
            work=any(push.head.get("work") is not False for push in others),
            ends=any(push.head.get("ends") is not False for push in others),
        )

    def _next(self, **news: Any) -> Wake:
        self._sequence -= 1  # never a number that the server's own wakes have
        return Wake(sequence=self._sequence, **{"offered": (), **news})


def _listed(push: Frame, name: str) -> list[Any]:
    found = push.head.get(name)
    return found if isinstance(found, list) else []

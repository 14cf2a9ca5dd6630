"""Connections to the lane of the embedded server, shared by the threads of an agent.

A request that the lane cannot carry is left to GraphQL: all of them may be repeated. Which server is meant, and where
its lane is, follows from the latest answer over HTTP, so a lane is never that of an earlier server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from loguru import logger

from flowherd import __version__
from flowherd.backends.graphql.transport import GraphQLTransport, refusal
from flowherd.errors import BackendUnavailable
from flowherd.lane.client import LaneClient, LaneClosed, LaneRefused
from flowherd.lane.frames import Frame
from flowherd.lane.messages import REFUSED, UNAVAILABLE

#: Number of connections that are kept open while no thread uses them.
_MOST_IDLE = 4
#: Pause before a lane that could not be opened is tried again, seconds: at first, and at most.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


class LanePool:
    """Open lanes to the server that `transport` reaches.

    `introduction` returns what a hello says of the agent; None while there is nothing to say.
    """

    def __init__(
        self, transport: GraphQLTransport, timeout_s: float, introduction: Callable[[], Mapping[str, Any] | None]
    ) -> None:
        self._transport = transport
        self._timeout_s = timeout_s
        self._introduction = introduction
        self._lock = threading.Lock()
        self._idle: list[LaneClient] = []
        #: The lane, and the life of its server, that the idle connections are to.
        self._target: tuple[Path | None, str] = (None, "")
        self._pause_s = _FIRST_PAUSE_S
        #: No connection is tried before this time (monotonic).
        self._not_before_s = 0.0
        self._is_used = False

    @contextmanager
    def requests(self, op: str) -> Iterator[LaneClient | None]:
        """Yield a connection for requests that are sent ahead of their answers; None if GraphQL has to be asked.

        Its errors become those of `ask`, or end the block if GraphQL has to be asked; it is closed then.
        """
        with self._connection() as lane:
            try:
                yield lane if lane is not None and op in lane.operations else None
            except BaseException as error:
                if lane is not None:
                    lane.close()
                if not isinstance(error, (LaneRefused, LaneClosed)):
                    raise
                self._raise_for(op, error)

    def ask(self, op: str, body: bytes = b"", **given: Any) -> Frame | None:
        """Return the answer to a request, its content as the head; None if GraphQL has to be asked.

        Raises BackendUnavailable, ClaimLost or BackendRefused.
        """
        with self._connection() as lane:
            if lane is None or op not in lane.operations:
                return None
            try:
                return lane.request(op, body, **given)
            except (LaneRefused, LaneClosed) as error:
                self._raise_for(op, error)
                return None
            except ValueError as error:  # longer than a frame may be
                logger.debug("GraphQL instead of the lane for {}: {}", op, error)
                return None

    def open(self) -> LaneClient | None:
        """Open one more lane, which the caller closes; None if that is not possible now."""
        path, instance = self._current()
        said = self._introduction()
        if path is None or said is None or time.monotonic() < self._not_before_s:
            return None
        try:
            lane = LaneClient(path, self._timeout_s, instance=instance, core_version=f"flowherd-{__version__}", **said)
        except (LaneClosed, LaneRefused) as error:
            with self._lock:
                pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, _LONGEST_PAUSE_S)
                self._not_before_s = time.monotonic() + pause_s
            logger.debug("Without the server's lane for {:.0f} s: {}", pause_s, error)
            return None
        with self._lock:
            self._pause_s = _FIRST_PAUSE_S
            first, self._is_used = not self._is_used, True
        if first:
            logger.debug("Using the server's lane {}", path)
        return lane

    def close(self) -> None:
        """Close the connections that no thread uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for lane in idle:
            lane.close()

    @contextmanager
    def _connection(self) -> Iterator[LaneClient | None]:
        """Yield a connection for one request; it is kept if it is still open afterwards."""
        self._current()
        with self._lock:
            lane = self._idle.pop() if self._idle else None
            target = self._target
        lane = lane or self.open()
        try:
            yield lane
        finally:
            if lane is not None and lane.fileno() >= 0 and not self._is_kept(lane, target):
                lane.close()

    def _is_kept(self, lane: LaneClient, target: tuple[Path | None, str]) -> bool:
        with self._lock:
            is_kept = target == self._target and len(self._idle) < _MOST_IDLE
            if is_kept:
                self._idle.append(lane)
            return is_kept

    def _current(self) -> tuple[Path | None, str]:
        """Return where the lane is now, and begin anew if that has changed."""
        target = self._transport.server_lane, self._transport.server_instance
        with self._lock:
            if target == self._target:
                return target
            self._target, idle, self._idle = target, self._idle, []
            self._pause_s, self._not_before_s, self._is_used = _FIRST_PAUSE_S, 0.0, False
        for lane in idle:
            lane.close()
        return target

    def _raise_for(self, op: str, error: LaneRefused | LaneClosed) -> None:
        """Raise what an error stands for, unless GraphQL may answer something else."""
        if isinstance(error, LaneClosed):
            if isinstance(error.__cause__, TimeoutError):  # GraphQL would be waited for as long
                raise BackendUnavailable(f"{self._transport.origin}: {error}") from error
        elif error.kind == UNAVAILABLE:
            raise BackendUnavailable(f"{self._transport.origin}: {error}") from error
        elif error.kind == REFUSED:
            raise refusal([{"message": str(error)}]) from error
        logger.debug("GraphQL instead of the lane for {}: {}", op, error)

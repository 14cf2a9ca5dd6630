"""The lane's thread, the only one between a request and its answer: it reads, carries out, writes and answers.

What has come from all clients while the last transaction was flushed is the next one (carry_out.py).
"""

from __future__ import annotations

import contextlib
import resource
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from loguru import logger

from flowherd import __version__
from flowherd.lane.frames import BadFrame, Frame
from flowherd.lane.messages import BAD_REQUEST, HELLO, OTHER_VERSION, UNKNOWN_OP, VERSION
from flowherd.signals import Waker
from flowherd_server.call import Caller
from flowherd_server.lane import given
from flowherd_server.lane.backlog import Backlog
from flowherd_server.lane.carry_out import carry_out
from flowherd_server.lane.connection import LaneConnection
from flowherd_server.lane.given import BadRequest
from flowherd_server.lane.listener import LaneListener
from flowherd_server.lane.operations import OPERATIONS
from flowherd_server.lane.requests import LaneRequest
from flowherd_server.service import ServerCore

#: Most connections at a time; further ones are closed at once, and their clients go on without the lane.
MOST_CONNECTIONS = 512
#: Share of the process's descriptors that the lane's connections may have; the others are for HTTP and the database.
_SHARE = 4
#: Bytes that are taken from a connection at a time.
_AT_ONCE_BYTES = 256 * 1024
#: How long no connections are accepted if the process has no descriptors left, seconds.
_FULL_PAUSE_S = 1.0
#: How long the thread has for its last transaction when the server stops, seconds.
_STOP_S = 5.0


def open_lane(core: ServerCore, directory: Path) -> Lane | None:
    """Open the lane beside the database; None, with a warning, if that is not possible."""
    try:
        return Lane(core, LaneListener(directory))
    except OSError as error:
        logger.warning("no lane: a socket in {} is not possible ({}); agents use HTTP for everything", directory, error)
        return None


class Lane:
    """The lane of a running server."""

    def __init__(self, core: ServerCore, listener: LaneListener) -> None:
        self._core = core
        self._listener = listener
        #: The socket's path.
        self.path = listener.path
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener.socket, selectors.EVENT_READ, listener)
        self._selector.register(self._waker, selectors.EVENT_READ, self._waker)
        self._connections: set[LaneConnection] = set()
        self._most = _most_connections()
        #: Connections for which something waits to be sent; filled by any thread.
        self._changed: deque[LaneConnection] = deque()
        #: What other threads have asked this one to do.
        self._errands: deque[Callable[[], None]] = deque()
        self._backlog = Backlog()
        # One for all, because to get so much memory for each time that something comes costs more than to read it.
        self._buffer = bytearray(_AT_ONCE_BYTES)
        self._accepts_from_s: float | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, name="lane", daemon=True)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and close all connections. Requests that are being carried out are answered."""
        self._stopping = True
        self._waker.wake()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        self._listener.close()

    def soon(self, errand: Callable[[], None]) -> None:
        """Have the lane's thread call a function. For any thread."""
        self._errands.append(errand)
        self._waker.wake()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                self._serve_once()
            except Exception:  # the lane must not end before the server
                logger.exception("unexpected error in the lane's thread; continuing")
                time.sleep(0.1)
        for connection in list(self._connections):
            self._close(connection)
        self._selector.close()

    def _serve_once(self) -> None:
        for key, events in self._selector.select(self._timeout_s()):
            if isinstance(key.data, LaneConnection):
                self._look_at(key.data, events)
            elif key.data is self._listener:
                self._accept()
            else:
                self._waker.wait(0)
        while self._errands:
            self._errands.popleft()()
        self._look_after_waiting()
        self._accept_again()
        if self._backlog:
            carry_out(self._core, self._backlog.take())

    def _timeout_s(self) -> float | None:
        if self._backlog:
            return 0.0
        return None if self._accepts_from_s is None else max(0.0, self._accepts_from_s - time.monotonic())

    # -- connections

    def _accept(self) -> None:
        try:
            accepted = self._listener.accept()
        except OSError as error:  # no descriptors are left
            logger.warning("no connection to the lane can be accepted for {:.0f} s: {}", _FULL_PAUSE_S, error)
            self._selector.unregister(self._listener.socket)
            self._accepts_from_s = time.monotonic() + _FULL_PAUSE_S
            return
        if accepted is None:
            return
        if len(self._connections) >= self._most:
            accepted.close()
            return
        connection = LaneConnection(accepted, self._has_waiting)
        self._connections.add(connection)
        self._selector.register(connection, selectors.EVENT_READ, connection)

    def _accept_again(self) -> None:
        if self._accepts_from_s is not None and time.monotonic() >= self._accepts_from_s:
            self._accepts_from_s = None
            self._selector.register(self._listener.socket, selectors.EVENT_READ, self._listener)

    def _has_waiting(self, connection: LaneConnection) -> None:
        self._changed.append(connection)
        self._waker.wake()

    def _look_after_waiting(self) -> None:
        while self._changed:
            connection = self._changed.popleft()
            if connection in self._connections:
                self._watch(connection)

    def _watch(self, connection: LaneConnection) -> None:
        """Wait for the client to read, if something waits to be sent to it, else for what it sends."""
        if connection.problem:
            self._close(connection)
            return
        # A client that does not read its answers gets no further ones to its requests meanwhile.
        wanted = selectors.EVENT_WRITE if connection.has_waiting else selectors.EVENT_READ
        self._selector.modify(connection, wanted, connection)

    def _close(self, connection: LaneConnection) -> None:
        self._connections.discard(connection)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection)
        connection.close()
        for callback in connection.on_close:
            callback()

    def _look_at(self, connection: LaneConnection, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            if connection.send_waiting():
                self._watch(connection)
            return
        if self._backlog.holds(connection):
            return
        try:
            frames = connection.receive(self._buffer)
        except OSError:
            self._close(connection)
            return
        except BadFrame as error:
            self._refuse(connection, None, BAD_REQUEST, str(error))
            return
        for frame in frames:
            if not connection.problem:
                self._take(connection, frame)

    # -- requests

    def _take(self, connection: LaneConnection, frame: Frame) -> None:
        request_id, name = frame.head.get("id"), frame.head.get("op")
        if not isinstance(request_id, int) or not isinstance(name, str):
            self._refuse(connection, None, BAD_REQUEST, "a request has a number as id, and a text as op")
        elif name == HELLO:
            self._greet(connection, request_id, frame)
        elif not connection.is_greeted:
            self._refuse(connection, request_id, BAD_REQUEST, "the first request is a hello")
        elif (operation := OPERATIONS.get(name)) is None:
            message = f"this server has no operation {name[:50]!r}"
            connection.send({"id": request_id, "error": UNKNOWN_OP, "message": message})
        else:
            request = LaneRequest(
                connection=connection, id=request_id, given=frame.head, body=frame.body, core=self._core
            )
            self._backlog.add((operation, request))

    def _greet(self, connection: LaneConnection, request_id: int, frame: Frame) -> None:
        if frame.head.get("lane") != VERSION:
            self._refuse(connection, request_id, OTHER_VERSION, f"this server speaks version {VERSION} of the lane")
            return
        try:
            connection.caller = _caller(frame.head)
        except BadRequest as error:
            self._refuse(connection, request_id, BAD_REQUEST, str(error))
            return
        connection.is_greeted = True
        connection.answer(
            request_id,
            {
                "lane": VERSION,
                "version": __version__,
                "instance": self._core.instance,
                "restored": self._core.restored,
                "ops": sorted(OPERATIONS),
            },
        )

    def _refuse(self, connection: LaneConnection, request_id: int | None, kind: str, message: str) -> None:
        """Say why, and close the connection."""
        connection.send({"id": request_id, "error": kind, "message": message})
        self._close(connection)


def _most_connections() -> int:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MOST_CONNECTIONS, soft // _SHARE)


def _caller(head: given.Given) -> Caller:
    return Caller(
        agent_id=given.uuid_or_none(head, "agent_id"),
        core_version=None if head.get("core_version") is None else given.text(head, "core_version"),
        tenant_id=given.uuid_or_none(head, "tenant_id"),
    )

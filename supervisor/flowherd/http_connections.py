"""Accepts HTTP connections within limits: how many there are, how long they may take, and what is logged of them.

uvicorn limits the size of a request's head and the pause between two requests. It does not limit the time for sending a
request or reading an answer, and asyncio, which accepts for it, has no maximum number of connections: without a free
descriptor it logs an error for each try, 512 at once (CPython issue 151615). So this module
accepts by itself. Every HTTP server of this project uses it.

If all connections are taken, a new one takes the place of the one that has waited longest for its client, as in nginx
("reusing connections"). A request that is being answered is never given up for another one.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import socket
import time
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from flowherd.http_limits import Limits, Refusals

#: Time between two looks at all connections, while there are some, seconds.
_SWEEP_S = 1.0
#: Pause of accepting when there is no room, seconds.
_PAUSE_S = 0.25
#: Maximum number of connections that are accepted at once; then requests of those are read.
_AT_ONCE = 16
#: Maximum number of connections that wait to be accepted.
BACKLOG = 512
#: A connection that has waited this long for its client may be closed for a new one, seconds.
_SPARED_S = 0.5
#: The same while a body is being received, seconds.
_SPARED_BODY_S = 5.0
#: Slowest transfer that is waited for, bytes a second.
_SLOWEST_BYTES_S = 16 * 1024
#: Failures to accept for want of something, which pass (accept(2)).
_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


#: Key of a request's state (ASGI): why the connected process may ask nothing; empty if it may.
REFUSAL = "flowherd.refusal"


class _Phase(enum.Enum):
    """What a connection waits for."""

    #: The head of its first request.
    HEAD = enum.auto()
    #: Its next request.
    KEPT = enum.auto()
    #: The rest of a request's body.
    BODY = enum.auto()
    #: Our answer.
    ANSWER = enum.auto()
    #: The client, which has to read the answer.
    READER = enum.auto()


_TRANSFERS = (_Phase.BODY, _Phase.READER)


class _Connection(H11Protocol):
    """One connection, which knows since when it waits for what."""

    def __init__(self, server: uvicorn.Server, connections: Connections, refusal: str) -> None:
        state = {**server.lifespan.state, REFUSAL: refusal}
        super().__init__(config=server.config, server_state=server.server_state, app_state=state, _loop=None)
        self.logger = connections.logger
        self._connections = connections
        self.phase = _Phase.HEAD
        #: Begin of the phase, or the last progress in it (monotonic).
        self.since = time.monotonic()
        self._answered = 0
        #: Bytes received since the last answer.
        self._received = 0
        #: Bytes received, or still to be read by the client, at the time `since`.
        self._mark = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connections.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._connections.closed(self)

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > self._connections.limits.request_bytes:
            self.close_now("a request was larger than it may be, so its connection was closed")
            return
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._answered += 1
        self._received = 0
        self.since = time.monotonic()
        super().on_response_complete()

    def close_now(self, why: str) -> None:
        """Close the connection without sending what was not sent yet."""
        self._connections.refusals.note(why)
        self._connections.closed(self)
        self.transport.abort()

    @property
    def _enough_bytes(self) -> float:
        return self._connections.limits.transfer_s * _SLOWEST_BYTES_S

    @property
    def is_new(self) -> bool:
        """Whether no request has been answered on it."""
        return not self._answered

    def look(self, now: float) -> None:
        """Bring `phase` and `since` up to date."""
        phase, unread = self._present_phase(), self.transport.get_write_buffer_size()
        moved = self._mark - unread if phase is _Phase.READER else self._received - self._mark
        if phase is not self.phase or (phase in _TRANSFERS and moved >= self._enough_bytes):
            if phase is not _Phase.KEPT:  # whose time on_response_complete has set
                self.since = now
            self._mark = unread if phase is _Phase.READER else self._received
        self.phase = phase

    def overdue(self, now: float) -> str:
        """Return why the connection has to be closed; empty if it has not."""
        limits, lasted_s = self._connections.limits, now - self.since
        if self.phase in (_Phase.HEAD, _Phase.KEPT) and lasted_s > limits.head_s:
            return f"a connection sent no complete request within {limits.head_s:g} s and was closed"
        if self.phase is _Phase.BODY and lasted_s > limits.transfer_s:
            return f"a body came more slowly than {_SLOWEST_BYTES_S} bytes a second, so its connection was closed"
        if self.phase is _Phase.READER and lasted_s > limits.transfer_s:
            return (
                f"an answer was read more slowly than {_SLOWEST_BYTES_S} bytes a second, so its connection was closed"
            )
        return ""

    def may_make_room(self, now: float) -> bool:
        """Return whether a new connection may take its place."""
        if self.phase is _Phase.BODY:
            return now - self.since >= _SPARED_BODY_S
        return self.phase in (_Phase.HEAD, _Phase.KEPT) and now - self.since >= _SPARED_S

    def _present_phase(self) -> _Phase:
        if self.transport.get_write_buffer_size():
            return _Phase.READER
        if self.conn.their_state is h11.SEND_BODY:
            return _Phase.BODY
        if self.conn.their_state is h11.IDLE and self.conn.our_state is h11.IDLE:
            return _Phase.KEPT if self._answered else _Phase.HEAD
        return _Phase.ANSWER


class Connections:
    """The connections of one listening socket. Has the methods of asyncio.Server that uvicorn calls."""

    def __init__(
        self,
        server: uvicorn.Server,
        listener: socket.socket,
        limits: Limits,
        refusals: Refusals,
        refusal: Callable[[socket.socket], str],
    ) -> None:
        self.limits = limits
        self._refusal = refusal
        self.refusals = refusals
        #: For what uvicorn reports about single requests.
        self.logger = logging.Logger("flowherd.http", logging.WARNING)
        self.logger.addHandler(_CountingHandler(refusals))
        self._server = server
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._open: set[_Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._is_closed = False

    def start(self) -> None:
        """Start accepting."""
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Stop accepting. The open connections stay."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._listener.fileno())
        for timer in (self._sweep, self._pause):
            if timer is not None:
                timer.cancel()

    async def wait_closed(self) -> None:
        """Return at once: uvicorn waits for its connections itself."""

    def opened(self, connection: _Connection) -> None:
        """Add a connection."""
        self._open.add(connection)
        if self._sweep is None and not self._is_closed:
            self._sweep = self._loop.call_later(_SWEEP_S, self._look_at_all)

    def closed(self, connection: _Connection) -> None:
        """Remove a connection, which makes room for another one."""
        self._open.discard(connection)
        if self._pause is not None:
            self._resume()

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if len(self._open) + len(self._connecting) >= self.limits.connections and not self._make_room():
                self._stop_for_a_while()
                return
            try:
                accepted, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                self.refusals.note(f"cannot accept connections for a moment: {error.strerror}")
                self._make_room()
                self._stop_for_a_while()
                return
            task = self._loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            refusal = self._refusal(accepted)
            await self._loop.connect_accepted_socket(lambda: _Connection(self._server, self, refusal), accepted)
        except OSError:  # the client is gone already
            accepted.close()

    def _stop_for_a_while(self) -> None:
        """Leave new connections in the socket's queue until one of ours is closed, or a moment later."""
        self._loop.remove_reader(self._listener.fileno())
        self._pause = self._loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if self._pause is not None and not self._is_closed:
            self._pause.cancel()
            self._pause = None
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _make_room(self) -> bool:
        """Close the connection that has waited longest for its client, if any has waited for long enough."""
        now = time.monotonic()
        for connection in self._open:
            connection.look(now)
        waiting = [connection for connection in self._open if connection.may_make_room(now)]
        if not waiting:
            return False
        first = min(waiting, key=lambda each: (each.phase is _Phase.BODY, not each.is_new, each.since))
        first.close_now(f"all {self.limits.connections} connections are taken, so each new one replaces an idle one")
        return True

    def _look_at_all(self) -> None:
        now = time.monotonic()
        for connection in list(self._open):
            connection.look(now)
            why = connection.overdue(now)
            if why:
                connection.close_now(why)
        self.refusals.end_quiet(now)
        self._sweep = self._loop.call_later(_SWEEP_S, self._look_at_all) if self._open else None


class _CountingHandler(logging.Handler):
    """Counts what uvicorn warns of, which a client can cause at will; passes errors on."""

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(logging.WARNING)
        self._refusals = refusals

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR:
            logging.getLogger("uvicorn.error").handle(record)
        else:
            self._refusals.note(f"uvicorn: {record.getMessage().rstrip('.')}")


class BoundedServer(uvicorn.Server):
    """uvicorn on sockets that listen already, with `limits` for each. `name` is for the log.

    What `refusal` returns for a connected socket is in the state of its requests, under REFUSAL.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        name: str,
        limits: Limits,
        refusal: Callable[[socket.socket], str] = lambda _connected: "",
    ) -> None:
        super().__init__(config)
        self._refusal = refusal
        self._limits = limits
        self._refusals = Refusals(name)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting on `sockets`."""
        limits = self._limits.for_this_process()
        made = [Connections(self, one, limits, self._refusals, self._refusal) for one in sockets or []]
        self.servers: list[Any] = made
        for connections in made:
            connections.start()
        self.started = True


def server_config(app: Callable[..., Any], *, stop_timeout_s: int, **more: Any) -> uvicorn.Config:
    """Return uvicorn's settings for a BoundedServer; `stop_timeout_s` is for requests under way when it stops.

    Websockets are off: a connection that becomes one leaves uvicorn's connections, and nothing here has any. Headers of
    proxies are not read, because nothing here depends on the client's address.
    """
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=stop_timeout_s,
        server_header=False,
        proxy_headers=False,
        **more,
    )

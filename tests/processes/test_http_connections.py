"""Limits of connections: each that gets nowhere is closed, new ones find room, and the log stays short."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flowherd.http_connections import BoundedServer, server_config
from flowherd.http_limits import Limits
from tests.support.waiting import wait_until

TIMEOUT_S = 20.0
REQUEST = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
LARGE_BYTES = 16 * 1024 * 1024


class Server:
    """A server of its own in a thread, which lets requests for /held wait."""

    def __init__(self, limits: Limits) -> None:
        self.held = threading.Event()
        self.log: list[str] = []
        app = Starlette(routes=[Route("/{word}", self._answer, methods=["GET", "POST"])])
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._listener.getsockname()[1]
        config = server_config(app, stop_timeout_s=1, timeout_keep_alive=60)
        self._server = BoundedServer(config, "a server", limits)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]})

    def _answer(self, request: Request) -> Response:
        if request.path_params["word"] == "held":
            self.held.wait(TIMEOUT_S)
        return Response(b"x" * LARGE_BYTES if request.path_params["word"] == "large" else b"here")

    @contextlib.contextmanager
    def running(self) -> Iterator[Server]:
        sink = logger.add(lambda message: self.log.append(str(message)), format="{message}", level="INFO")
        self._thread.start()
        try:
            yield self
        finally:
            self.held.set()
            self._server.should_exit = True
            self._thread.join(TIMEOUT_S)
            self._listener.close()
            logger.remove(sink)

    def connect(self, data: bytes = b"") -> socket.socket:
        """Open a connection and send some bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_S)
        connection.sendall(data)
        return connection

    def logged(self, words: str) -> int:
        return sum(words in line for line in self.log)


@pytest.fixture
def server() -> Iterator[Server]:
    limits = Limits(connections=8, request_bytes=100_000, head_s=1.5, transfer_s=1.0)
    with Server(limits).running() as server:
        yield server


def received(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError), connection:
        while part := connection.recv(1 << 20):
            data += part
    return data


def is_answered(connection: socket.socket) -> bool:
    return connection.recv(100).startswith(b"HTTP/1.1 200")


def test_connections_that_get_nowhere_are_closed_and_each_kind_is_logged_once(server: Server) -> None:
    post = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n"
    silent, begun = [server.connect() for _ in range(2)], server.connect(b"GET / HTTP/1.1\r\nHos")
    answered, slow = server.connect(REQUEST % b"x" + b"GET /"), server.connect(post + b"x" * 10)
    unread = server.connect(REQUEST % b"large")
    assert [received(each) for each in (*silent, begun)] == [b"", b"", b""]
    assert received(answered).endswith(b"here")
    received(slow)
    wait_until(lambda: server.logged("read more slowly"), what=lambda: str(server.log))
    assert len(received(unread)) < LARGE_BYTES
    assert server.logged("sent no complete request") == 1
    assert server.logged("a body came more slowly") == 1


def test_a_request_that_is_too_large_ends_its_connection(server: Server) -> None:
    connection = server.connect(REQUEST % b"x")
    assert is_answered(connection)
    with contextlib.suppress(ConnectionError):
        connection.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(200):
            connection.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    received(connection)
    assert server.logged("larger than it may be") == 1


def test_new_connections_replace_idle_ones_and_never_one_that_is_answered(server: Server) -> None:
    held = server.connect(REQUEST % b"held")
    kept = server.connect(REQUEST % b"x")
    assert is_answered(kept)
    half_open = [server.connect() for _ in range(30)]
    for _ in range(10):
        with server.connect(REQUEST % b"x") as connection:
            assert is_answered(connection)
    assert server.logged("all 8 connections are taken") == 1
    server.held.set()
    assert is_answered(held)
    for connection in (held, kept, *half_open):
        connection.close()


def test_invalid_requests_are_logged_once(server: Server) -> None:
    for _ in range(5):
        assert received(server.connect(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
        with server.connect(
            b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        ) as other:
            assert is_answered(other)
    assert server.logged("Invalid HTTP request") == 1
    assert server.logged("Unsupported upgrade request") <= 1  # older releases of uvicorn do not warn

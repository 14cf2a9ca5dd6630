"""A real HTTP server on a free port whose answers a function of the test returns."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as the server received it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer. Only these headers and Content-Length are sent, so there is no Date unless a test sets one."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


@contextmanager
def http_server(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """Serve until the end of the block and return the address, http://127.0.0.1:PORT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            request = Request(method=self.command, path=self.path, headers=dict(self.headers), body=body)
            sent = answer(request)
            self.send_response_only(sent.status)
            for name, value in {**sent.headers, "Content-Length": str(len(sent.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent.body)

        do_GET = do_POST = do_PATCH = respond

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class CannedServer:
    """Gives prepared answers in turn, the last one repeatedly, and records the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.answers = [Answer()]
        self.requests: list[Request] = []

    def answer(self, request: Request) -> Answer:
        self.requests.append(request)
        return self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)


@contextmanager
def canned_server() -> Iterator[CannedServer]:
    """Serve the answers that the test puts into `answers`, until the end of the block."""
    server = CannedServer()
    with http_server(server.answer) as server.url:
        yield server

"""Log lines carry their ids to every server that knows them, whatever somebody in between answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import SERVER_HEADER, GraphQLTransport
from flowherd.errors import BackendUnavailable
from flowherd.values import LogLine


class Peer:
    """Answers as a flowherd server does, or as a proxy whose server is away; keeps the logs that it was sent."""

    def __init__(self) -> None:
        self.away = False
        self.ours = True
        self.logs: list[dict[str, Any]] = []


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def backend(peer: Peer) -> Iterator[GraphQLBackend]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            data: dict[str, Any] = {"hello": "", "tenant": []}
            if "write_run_logs" in request["query"] and not peer.away:
                peer.logs += json.loads(request["variables"])["input"]["logs"]
                data = {"write_run_logs": {"success": True}}
            body = b"" if peer.away else json.dumps({"data": data}).encode()
            self.send_response(503 if peer.away else 200)
            if peer.ours and not peer.away:
                self.send_header(SERVER_HEADER, "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        backend = GraphQLBackend(GraphQLTransport(f"http://127.0.0.1:{server.server_port}", timeout_s=5))
        yield backend
        backend.close()
        server.shutdown()
        thread.join()


def line() -> LogLine:
    now = datetime.now(timezone.utc)
    return LogLine(flow_run_id="r", at=now, stream="stdout", level=20, logger="x", message="m", line_id="7")


def test_before_anybody_has_connected(peer: Peer, backend: GraphQLBackend) -> None:
    """A restarted agent sends what the last one could not before its first poll."""
    backend.write_logs([line()])
    assert [log.get("line_id") for log in peer.logs] == ["7"]


def test_after_an_answer_of_somebody_else(peer: Peer, backend: GraphQLBackend) -> None:
    backend.connect()
    peer.away = True
    with pytest.raises(BackendUnavailable):
        backend.write_logs([line()])
    peer.away = False
    backend.write_logs([line()])
    assert [log.get("line_id") for log in peer.logs] == ["7"]


def test_never_to_another_server(peer: Peer, backend: GraphQLBackend) -> None:
    peer.ours = False
    backend.write_logs([line()])
    assert [log.get("line_id") for log in peer.logs] == [None]

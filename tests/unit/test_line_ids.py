"""Log lines carry their ids to every server that recognises them, whatever a proxy in between answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import SERVER_HEADER, GraphQLTransport
from flowherd.errors import BackendUnavailable
from flowherd.values import LogLine
from tests.support.http_server import Answer, Request, http_server


class Peer:
    """Answers as a server does, or as a proxy whose server is away; keeps the logs that it received."""

    def __init__(self) -> None:
        self.is_away = False
        #: Whether it is flowherd's own server.
        self.is_ours = True
        self.logs: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Answer:
        if self.is_away:
            return Answer(status=503, body=b"")
        document = json.loads(request.body)
        data: dict[str, Any] = {"hello": "", "tenant": []}
        if "write_run_logs" in document["query"]:
            self.logs += json.loads(document["variables"])["input"]["logs"]
            data = {"write_run_logs": {"success": True}}
        return Answer(headers={SERVER_HEADER: "1"} if self.is_ours else {}, body=json.dumps({"data": data}).encode())


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def backend(peer: Peer) -> Iterator[GraphQLBackend]:
    with http_server(peer.answer) as url:
        backend = GraphQLBackend(GraphQLTransport(url, timeout_s=5))
        yield backend
        backend.close()


def line() -> LogLine:
    now = datetime.now(timezone.utc)
    return LogLine(flow_run_id="r", at=now, stream="stdout", level=20, logger="x", message="m", line_id="7")


def test_ids_are_sent_before_the_first_connect(peer: Peer, backend: GraphQLBackend) -> None:
    """A restarted agent sends what the last one could not, before its first poll."""
    backend.write_logs([line()])
    assert [log.get("line_id") for log in peer.logs] == ["7"]


def test_ids_are_sent_after_an_answer_of_a_proxy(peer: Peer, backend: GraphQLBackend) -> None:
    backend.connect()
    peer.is_away = True
    with pytest.raises(BackendUnavailable):
        backend.write_logs([line()])
    peer.is_away = False
    backend.write_logs([line()])
    assert [log.get("line_id") for log in peer.logs] == ["7"]


def test_ids_are_never_sent_to_another_server(peer: Peer, backend: GraphQLBackend) -> None:
    peer.is_ours = False
    backend.write_logs([line()])
    assert [log.get("line_id") for log in peer.logs] == [None]

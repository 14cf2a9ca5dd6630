"""Strange answers and pushes of a lane: each is an error of the backend, or leads to GraphQL; none is anything else."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendError
from flowherd.lane.frames import MAX_FRAME_BYTES, FrameReader, encode
from flowherd.lane.messages import BAD_REQUEST, REFUSED, UNAVAILABLE, UNKNOWN_OP
from flowherd.states import RunState
from flowherd.values import AgentIdentity, Claim, LogLine, StateReport
from tests.hostile.test_backend_answers import DATA, ROW, RUN, good_flow_run
from tests.support.http_server import Answer, Request, http_server

OPERATIONS = ["subscribe", "offer", "claim", "report", "heartbeat", "states"]
NOW = datetime.now(timezone.utc)
REPORT = StateReport(flow_run_id=RUN, state=RunState.SUCCESS, message="x", at=NOW)
LINE = LogLine(flow_run_id=RUN, at=NOW, stream="stdout", level=20, logger="x", message="a line", line_id="1")
CALLS: dict[str, Callable[[LaneBackend], Any]] = {
    "offer": lambda backend: backend.offered_runs([], (), 1),
    "claim": lambda backend: backend.claim_many([Claim(flow_run=good_flow_run(), token="t")]),
    "report": lambda backend: backend.deliver([LINE], [REPORT]),
    "heartbeat": lambda backend: backend.heartbeat([RUN]),
    "states": lambda backend: backend.stored_states([RUN]),
}
#: What stands under "ok".
CONTENTS: list[Any] = [
    *({}, [], None, 5, "x", {"flow_runs": None}, {"flow_runs": 5}, {"flow_runs": {"a": 1}}, {"flow_runs": [5, {}]}),
    *({"flow_runs": [{**ROW, "version": "two"}]}, {"flow_runs": [{"id": RUN, "version": None, "state": "Odd"}]}),
    *({"claims": None}, {"claims": [5]}, {"claims": [{"flow_run_id": 5, "won": "yes"}]}, {"claims": {}}),
]
FAILURES: list[Any] = [REFUSED, UNAVAILABLE, UNKNOWN_OP, BAD_REQUEST, "odd", 5, {}, []]
#: Bytes in place of an answer; empty closes the connection.
NO_FRAMES = [
    b"",
    b"\x00",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"\x00\x00\x00\x02\x00\x00",
    (MAX_FRAME_BYTES + 1).to_bytes(4, "big"),
]
PUSHES: list[Any] = [
    *({"push": "offer"}, {"push": "offer", "flow_runs": 5}, {"push": "offer", "flow_runs": {"a": 1}}),
    *({"push": "offer", "flow_runs": [5, None, {}, {**ROW, "id": "../x"}]}, {"push": "odd"}, {"push": None}),
    *({"push": []}, {"push": "wake", "ends": 5, "work": []}, {"push": "followed", "flow_run_ids": 5}),
]


class StrangeLane:
    """A lane whose answers to all but the hello and subscribe a test sets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Makes the answer's bytes from the id of the request; empty bytes close the connection.
        self.answer: Callable[[int], bytes] = lambda _: b""
        self.pushes: list[Any] = []
        self.asked: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                accepted, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(accepted,), daemon=True).start()

    def _serve(self, accepted: socket.socket) -> None:
        reader = FrameReader()
        with accepted, contextlib.suppress(OSError):
            while data := accepted.recv(65536):
                reader.feed(data)
                for frame in reader.frames():
                    answer = self._answer(frame.head)
                    if not answer:
                        return
                    accepted.sendall(answer)

    def _answer(self, head: dict[str, Any]) -> bytes:
        self.asked.append(head["op"])
        if head["op"] == "hello":
            return encode({"id": head["id"], "ok": {"instance": "1", "ops": OPERATIONS}})
        if head["op"] == "subscribe":
            return encode({"id": head["id"], "ok": {}}) + b"".join(map(encode, self.pushes))
        return self.answer(head["id"])

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def lane(tmp_path: Path) -> Iterator[StrangeLane]:
    lane = StrangeLane(tmp_path / "lane.sock")
    yield lane
    lane.close()


@pytest.fixture
def backend(lane: StrangeLane) -> Iterator[LaneBackend]:
    headers = {
        "X-Flowherd-Server": "1",
        "X-Flowherd-Instance": "1",
        "X-Flowherd-Extensions": "offers, claim-runs",
        "X-Flowherd-Lane": str(lane.path),
    }

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return Answer(headers=headers, body=b'{"sequence": 3}')
        query = json.loads(request.body)["query"]
        word = next(word for word in reversed(DATA) if word in query)
        data = {"register_agent": {"id": str(uuid.UUID(int=8))}} if word == "register_agent" else DATA[word]
        return Answer(headers=headers, body=json.dumps({"data": data}).encode())

    with http_server(answer) as url:
        backend = LaneBackend(GraphQLTransport(url, timeout_s=5), timeout_s=0.5)  # some answers never end
        backend.connect()
        backend.register(AgentIdentity(type="Test", name="test", labels=()))
        yield backend
        backend.close()


def answers() -> Iterator[Callable[[int], bytes]]:
    for content in CONTENTS:
        yield lambda number, content=content: encode({"id": number, "ok": content})  # type: ignore[misc]
    for kind in FAILURES:
        yield lambda number, kind=kind: encode({"id": number, "error": kind, "message": 5})  # type: ignore[misc]
    for data in NO_FRAMES:
        yield lambda _, data=data: data  # type: ignore[misc]


@pytest.mark.parametrize("op", CALLS)
def test_a_strange_answer_is_an_error_of_the_backend_or_leads_to_graphql(
    lane: StrangeLane, backend: LaneBackend, op: str
) -> None:
    for lane.answer in answers():
        lane.asked.clear()
        with contextlib.suppress(BackendError):
            CALLS[op](backend)
        assert op in lane.asked


def test_after_a_broken_connection_graphql_answers_at_once(lane: StrangeLane, backend: LaneBackend) -> None:
    assert backend.claim_many([Claim(flow_run=good_flow_run(), token="t")]) == {RUN: None}
    assert "claim" in lane.asked


@pytest.mark.parametrize("push", PUSHES)
def test_a_strange_push_brings_no_run_and_no_error(lane: StrangeLane, backend: LaneBackend, push: Any) -> None:
    lane.pushes = [push, {"push": "offer", "flow_runs": [ROW]}]
    backend.wait_for_wake(0, 5)
    offered: tuple[Any, ...] = ()
    while not offered:
        news = backend.wait_for_wake(0, 5)
        assert news.offered is not None
        offered = news.offered
    assert [run.id for run in offered] == [RUN]

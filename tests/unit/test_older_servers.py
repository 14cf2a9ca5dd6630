"""Servers of earlier days do not know all fields that are asked of a flow run: they are asked for what they know."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, NotAuthorized

RUN_ID = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"
OLD_FLOW = {"labels": ["a", "b"], "type": "LocalEnvironment"}


class Server:
    """Knows one due flow run, and none of the fields `unknown`; whoever names one is refused with `message`."""

    def __init__(self, unknown: tuple[str, ...], message: str = "field not found in type: 'flow_run'") -> None:
        self.unknown = unknown
        self.message = message
        self.url = ""
        #: How many queries for flow runs came.
        self.asked = 0

    def answer(self, query: str) -> dict[str, Any]:
        if "get_runs_in_queue" in query:
            return {"data": {"get_runs_in_queue": {"flow_run_ids": [RUN_ID]}}}
        self.asked += 1
        if any(name in query for name in self.unknown):
            return {"errors": [{"message": self.message}], "data": None}
        flow = {"id": RUN_ID, "name": "f", "version": 1, "storage": {"type": "Local"}, "environment": OLD_FLOW}
        flow.update({"core_version": "0.13.1"} if "core_version" in query else {})
        state = {"state": "Scheduled", "serialized_state": {"type": "Scheduled"}}
        return {"data": {"flow_run": [{"id": RUN_ID, "version": 1, "flow": flow, "task_runs": [], **state}]}}


@contextmanager
def serving(server: Server) -> Iterator[GraphQLBackend]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
            body = json.dumps(server.answer(query)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        backend = GraphQLBackend(GraphQLTransport(f"http://127.0.0.1:{http.server_port}"))
        try:
            yield backend
        finally:
            backend.close()
            http.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("unknown", "version", "tries"),
    [
        ((), "0.13.1", 1),
        ((" labels", "core_version"), None, 2),
        (("run_config", " labels"), "0.13.1", 3),
        (("run_config", "core_version"), None, 4),
    ],
)
def test_a_server_is_asked_for_what_it_knows_and_that_is_remembered(
    unknown: tuple[str, ...], version: str | None, tries: int
) -> None:
    server = Server(unknown)
    with serving(server) as backend:
        (run,) = backend.ready_runs(["a"], ())
        assert (run.flow.core_version, run.labels) == (version, ("a", "b"))
        assert server.asked == tries
        backend.ready_runs(["a"], ())
        assert server.asked == tries + 1


def test_a_server_that_refuses_everything_is_told_of() -> None:
    with serving(Server(("flow_run",))) as backend, pytest.raises(BackendRefused, match="field not found"):
        backend.ready_runs(["a"], ())


def test_a_refused_token_is_no_question_of_fields() -> None:
    server = Server(("flow_run",), "UNAUTHENTICATED")
    with serving(server) as backend, pytest.raises(NotAuthorized):
        backend.ready_runs(["a"], ())
    assert server.asked == 1

"""Older servers do not know all fields of a flow run: the backend asks for fewer and remembers which they know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, NotAuthorized
from tests.support.http_server import Answer, Request, http_server

RUN_ID = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"
OLD_FLOW = {"labels": ["a", "b"], "type": "LocalEnvironment"}


class OldServer:
    """Has one due flow run; refuses every query that contains one of the `unknown` fields with `message`."""

    def __init__(self, unknown: tuple[str, ...], message: str = "field not found in type: 'flow_run'") -> None:
        self.unknown = unknown
        self.message = message
        #: Number of queries for flow runs.
        self.queries = 0

    def answer(self, request: Request) -> Answer:
        return Answer(body=json.dumps(self._result(json.loads(request.body)["query"])).encode())

    def _result(self, query: str) -> dict[str, Any]:
        if "get_runs_in_queue" in query:
            return {"data": {"get_runs_in_queue": {"flow_run_ids": [RUN_ID]}}}
        self.queries += 1
        if any(name in query for name in self.unknown):
            return {"errors": [{"message": self.message}], "data": None}
        flow = {"id": RUN_ID, "name": "f", "version": 1, "storage": {"type": "Local"}, "environment": OLD_FLOW}
        flow.update({"core_version": "0.13.1"} if "core_version" in query else {})
        state = {"state": "Scheduled", "serialized_state": {"type": "Scheduled"}}
        return {"data": {"flow_run": [{"id": RUN_ID, "version": 1, "flow": flow, "task_runs": [], **state}]}}


@contextmanager
def backend_of(server: OldServer) -> Iterator[GraphQLBackend]:
    with http_server(server.answer) as url:
        backend = GraphQLBackend(GraphQLTransport(url))
        yield backend
        backend.close()


@pytest.mark.parametrize(
    ("unknown", "version", "tries"),
    [
        ((), "0.13.1", 1),
        ((" parameters }",), "0.13.1", 2),
        ((" labels", "core_version"), None, 3),
        (("run_config", " labels"), "0.13.1", 4),
        (("run_config", " labels", " parameters }"), "0.13.1", 5),
        (("run_config", "core_version"), None, 6),
    ],
)
def test_a_server_is_asked_for_the_fields_that_it_knows_and_they_are_remembered(
    unknown: tuple[str, ...], version: str | None, tries: int
) -> None:
    server = OldServer(unknown)
    with backend_of(server) as backend:
        (run,) = backend.ready_runs(["a"], ())
        assert (run.flow.core_version, run.labels) == (version, ("a", "b"))
        assert server.queries == tries
        backend.ready_runs(["a"], ())
        assert server.queries == tries + 1


def test_if_a_server_refuses_all_fields_its_last_refusal_is_raised() -> None:
    with backend_of(OldServer(("flow_run",))) as backend, pytest.raises(BackendRefused, match="field not found"):
        backend.ready_runs(["a"], ())


def test_a_refused_token_is_not_taken_for_an_unknown_field() -> None:
    server = OldServer(("flow_run",), "UNAUTHENTICATED")
    with backend_of(server) as backend, pytest.raises(NotAuthorized):
        backend.ready_runs(["a"], ())
    assert server.queries == 1

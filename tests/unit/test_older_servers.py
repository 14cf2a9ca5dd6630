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
        #: Ids of the runs that its queue lists.
        self.listed = [RUN_ID]
        #: The queries for flow runs, with their variables.
        self.asked: list[tuple[str, Any]] = []

    @property
    def queries(self) -> int:
        """Number of queries for flow runs."""
        return len(self.asked)

    def answer(self, request: Request) -> Answer:
        body = json.loads(request.body)
        return Answer(body=json.dumps(self._result(body["query"], json.loads(body["variables"]))).encode())

    def _result(self, query: str, variables: Any) -> dict[str, Any]:
        if "get_runs_in_queue" in query:
            return {"data": {"get_runs_in_queue": {"flow_run_ids": self.listed}}}
        self.asked.append((query, variables))
        if any(name in query for name in self.unknown):
            return {"errors": [{"message": self.message}], "data": None}
        flow = {"id": RUN_ID, "name": "f", "version": 1, "storage": {"type": "Local"}, "environment": OLD_FLOW}
        flow.update({"core_version": "0.13.1"} if "core_version" in query else {})
        state = {"state": "Scheduled", "serialized_state": {"type": "Scheduled"}}
        wanted = [one for one in self.listed if one in query or one in (variables or {}).get("ids", ())]
        run = {"version": 1, "flow": flow, "task_runs": [], **state}
        return {"data": {"flow_run": [{"id": one, **run} for one in wanted]}}


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


def test_the_texts_of_queries_stay_the_same() -> None:
    server = OldServer(())
    with backend_of(server) as backend:
        for _ in range(2):
            backend.ready_runs(["a"], ())
            backend.stored_states([RUN_ID])
    texts = [text for text, _ in server.asked]
    assert texts[:2] == texts[2:]
    assert RUN_ID not in "".join(texts)
    assert [variables["ids"] for _, variables in server.asked] == [[RUN_ID]] * 4


def test_a_server_that_refuses_variables_gets_the_values_in_the_texts_from_then_on() -> None:
    server = OldServer(("$",), "unknown type: uuid")
    with backend_of(server) as backend:
        assert list(backend.stored_states([RUN_ID])) == [RUN_ID]
        assert server.queries == 2
        assert [run.id for run in backend.ready_runs(["a"], ())] == [RUN_ID]
    assert server.queries == 3
    assert all("$" not in text and RUN_ID in text for text, _ in server.asked[1:])


@pytest.mark.parametrize("room", [0, 1, 2, None])
def test_details_are_asked_for_as_many_runs_as_there_is_room_for(room: int | None) -> None:
    server = OldServer(())
    server.listed = [RUN_ID.replace("211f", f"000{number}") for number in range(3)]
    with backend_of(server) as backend:
        found = backend.offered_runs(["a"], (), room)
    assert [run.id for run in found] == server.listed[:room]
    assert [variables["ids"] for _, variables in server.asked] == ([server.listed[:room]] if room != 0 else [])


def test_if_some_of_the_first_cannot_be_claimed_the_next_ones_are_asked_for() -> None:
    server = OldServer(())
    server.listed = [RUN_ID.replace("211f", f"000{number}") for number in range(3)]
    with backend_of(server) as backend:
        missing, *there = server.listed
        rows = server._result

        def without_the_first(query: str, variables: Any) -> dict[str, Any]:
            result = rows(query, variables)
            found = result["data"].get("flow_run")
            return result if found is None else {"data": {"flow_run": [row for row in found if row["id"] != missing]}}

        server._result = without_the_first  # type: ignore[method-assign]
        assert [run.id for run in backend.offered_runs(["a"], (), 2)] == there

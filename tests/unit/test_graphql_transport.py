"""Which error an answer of a GraphQL backend means, over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized
from tests.support.http_server import Answer, CannedServer, canned_server


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with canned_server() as server:
        server.answers = [Answer(body=b'{"data": {}}')]
        yield server


@pytest.fixture
def transport(canned: CannedServer) -> Iterator[GraphQLTransport]:
    transport = GraphQLTransport(canned.url, token="secret", timeout_s=5)
    yield transport
    transport.close()


def errors(message: str, code: str | None = None) -> bytes:
    return json.dumps({"errors": [{"message": message, "extensions": {"code": code}}], "data": None}).encode()


def test_variables_are_sent_as_json_text_and_the_token_in_the_header_only(
    canned: CannedServer, transport: GraphQLTransport
) -> None:
    transport.execute("query { hello }", {"a": 1})
    (request,) = canned.requests
    assert request.path == "/graphql"
    assert json.loads(request.body) == {"query": "query { hello }", "variables": '{"a": 1}'}
    assert request.headers["Authorization"] == "Bearer secret" and b"secret" not in request.body


def test_an_address_with_a_path_is_used_unchanged(canned: CannedServer) -> None:
    transport = GraphQLTransport(canned.url + "/graphql/alpha")
    transport.execute("query { hello }")
    transport.close()
    assert canned.requests[0].path == "/graphql/alpha"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_temporary_status_is_unavailable(canned: CannedServer, transport: GraphQLTransport, status: int) -> None:
    canned.answers = [Answer(status=status)]
    with pytest.raises(BackendUnavailable):
        transport.execute("query { hello }")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{}", b'{"data": 5}'])
def test_an_answer_that_is_not_graphql_is_unavailable(
    canned: CannedServer, transport: GraphQLTransport, body: bytes
) -> None:
    canned.answers = [Answer(body=body)]
    with pytest.raises(BackendUnavailable):
        transport.execute("query { hello }")


@pytest.mark.parametrize("data", [{}, {"register_agent": None}, {"register_agent": []}])
def test_a_mutation_without_a_result_is_unavailable(
    canned: CannedServer, transport: GraphQLTransport, data: object
) -> None:
    canned.answers = [Answer(body=json.dumps({"data": data}).encode())]
    with pytest.raises(BackendUnavailable, match="answered register_agent without a result"):
        transport.mutate("register_agent", {}, "id")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (errors("State update failed for flow run ID 1"), ClaimLost),
        (errors("x", "VERSION_LOCKING_ERROR"), ClaimLost),
        (errors("x", "UNAUTHENTICATED"), NotAuthorized),
        (errors("x", "API_ERROR"), BackendUnavailable),
        (errors("no such field"), BackendRefused),
        (b'{"errors": "odd"}', BackendRefused),
    ],
)
def test_errors_in_the_answer_have_their_class(
    canned: CannedServer, transport: GraphQLTransport, body: bytes, error: type[Exception]
) -> None:
    canned.answers = [Answer(body=body)]
    with pytest.raises(error) as caught:
        transport.execute("query { hello }")
    assert type(caught.value) is error


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_accepted_is_not_authorized_for_every_kind_of_request(
    canned: CannedServer, transport: GraphQLTransport, status: int
) -> None:
    canned.answers = [Answer(status=status)]
    for call in (
        lambda: transport.execute("query { hello }"),
        lambda: transport.get("/agents/5/wake", {}, 5),
        lambda: transport.post("/poke", 5),
    ):
        with pytest.raises(NotAuthorized, match=f"does not accept the token .HTTP {status}"):
            call()


def test_an_address_where_nothing_listens_is_unavailable() -> None:
    transport = GraphQLTransport("http://127.0.0.1:9", timeout_s=5)
    with pytest.raises(BackendUnavailable, match=r"no answer from http://127\.0\.0\.1:9/graphql: .*refused"):
        transport.execute("query { hello }")
    transport.close()


@pytest.mark.parametrize("address", ["", "localhost:4200", "ftp://x", "http://"])
def test_an_address_that_is_not_http_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        GraphQLTransport(address)

"""Which error of ours an answer of the backend means, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized


@dataclass
class Canned:
    """A server that gives one answer to everything and remembers what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b'{"data": {}}'
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def canned() -> Iterator[Canned]:
    state = Canned()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.requests.append((self.path, dict(self.headers), body))
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@pytest.fixture
def transport(canned: Canned) -> Iterator[GraphQLTransport]:
    transport = GraphQLTransport(canned.url, token="secret", timeout_s=5)
    yield transport
    transport.close()


def errors(message: str, code: str | None = None) -> bytes:
    return json.dumps({"errors": [{"message": message, "extensions": {"code": code}}], "data": None}).encode()


def test_variables_travel_as_a_json_text_and_the_token_in_the_header_only(
    canned: Canned, transport: GraphQLTransport
) -> None:
    transport.execute("query { hello }", {"a": 1})
    path, headers, body = canned.requests[0]
    assert path == "/graphql"
    assert json.loads(body) == {"query": "query { hello }", "variables": '{"a": 1}'}
    assert headers["Authorization"] == "Bearer secret" and b"secret" not in body


def test_an_address_with_a_path_is_used_as_it_is(canned: Canned) -> None:
    transport = GraphQLTransport(canned.url + "/graphql/alpha")
    transport.execute("query { hello }")
    transport.close()
    assert canned.requests[0][0] == "/graphql/alpha"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_trouble_is_unavailable(canned: Canned, transport: GraphQLTransport, status: int) -> None:
    canned.status = status
    with pytest.raises(BackendUnavailable):
        transport.execute("query { hello }")


def test_a_wish_to_wait_is_passed_on(canned: Canned, transport: GraphQLTransport) -> None:
    canned.status, canned.headers = 429, {"Retry-After": "7"}
    with pytest.raises(BackendUnavailable) as caught:
        transport.execute("query { hello }")
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'"x"', b"{}", b'{"data": 5}'])
def test_an_answer_that_is_none_is_unavailable(canned: Canned, transport: GraphQLTransport, body: bytes) -> None:
    canned.body = body
    with pytest.raises(BackendUnavailable):
        transport.execute("query { hello }")


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
    canned: Canned, transport: GraphQLTransport, body: bytes, error: type[Exception]
) -> None:
    canned.body = body
    with pytest.raises(error) as caught:
        transport.execute("query { hello }")
    assert type(caught.value) is error


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_not_accepted_is_told_so(canned: Canned, transport: GraphQLTransport, status: int) -> None:
    canned.status = status
    with pytest.raises(NotAuthorized):
        transport.execute("query { hello }")


def test_nobody_listening_is_unavailable() -> None:
    transport = GraphQLTransport("http://127.0.0.1:9", timeout_s=5)
    with pytest.raises(BackendUnavailable):
        transport.execute("query { hello }")
    transport.close()


@pytest.mark.parametrize("address", ["", "localhost:4200", "ftp://x", "http://"])
def test_what_is_no_http_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="not an http"):
        GraphQLTransport(address)

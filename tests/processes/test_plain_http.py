"""Short programs ask the server without requests; what that way does not understand is asked again with requests."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.plain_http import PlainConnection, get
from flowherd.errors import BackendRefused, BackendUnavailable
from tests.support.http_server import Answer, canned_server

DATA = Answer(headers={"X-Flowherd-Server": "9"}, body=b'{"data": {"hello": "hi"}}')
QUERY = "query { hello }"


@contextmanager
def raw_server(answer: bytes, *, connections: int = 1, stays_open: bool = False) -> Iterator[str]:
    """Send these bytes to each connection that has sent something."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(connections):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)
                    while stays_open and connection.recv(65536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def user_agents(requests: list[Mapping[str, str]]) -> list[str]:
    return [headers.get("User-Agent", "plain").partition("/")[0] for headers in requests]


def test_queries_go_without_requests_on_one_connection_and_mutations_with_it() -> None:
    with canned_server() as server:
        server.answers = [DATA]
        transport = GraphQLTransport(server.url, "token", plain=True)
        for operation in (QUERY, QUERY, "mutation { hello }"):
            assert transport.execute(operation) == {"hello": "hi"}
        assert transport.server_version == "9"
        transport.close()
        heads = [request.headers for request in server.requests]
        assert user_agents(heads) == ["plain", "plain", "python-requests"]
        assert {head["Authorization"] for head in heads} == {"Bearer token"}
        assert {head["Content-Type"] for head in heads} == {"application/json"}
        assert (
            server.requests[0].body == server.requests[1].body == b'{"query": "query { hello }", "variables": "null"}'
        )


def test_refusals_and_redirects_are_understood_as_they_are_with_requests() -> None:
    with canned_server() as server:
        refused = Answer(body=b'{"errors": [{"message": "no"}]}')
        moved = Answer(status=307, headers={"Location": f"{server.url}/there"})
        server.answers = [refused, moved, DATA, Answer(status=503, headers={"Retry-After": "7"})]
        transport = GraphQLTransport(server.url, plain=True)
        with pytest.raises(BackendRefused, match=r"^no$"):
            transport.execute(QUERY)
        assert transport.execute(QUERY) == {"hello": "hi"}
        assert server.requests[-1].path == "/there"
        with pytest.raises(BackendUnavailable) as caught:
            transport.execute(QUERY)
        assert caught.value.retry_after_s == 7
        transport.close()


def test_an_answer_of_another_form_is_asked_for_with_requests() -> None:
    zipped = gzip.compress(b'{"data": {"a": 1}}')
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    with raw_server(head % len(zipped) + zipped, connections=2) as url:
        transport = GraphQLTransport(url, plain=True)
        assert transport.execute(QUERY) == {"a": 1}
        transport.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 nothing\r\nContent-Length: 0\r\n\r\n",
        b"nothing\r\n\r\n",
        b"x" * 70000,
    ],
)
def test_a_bad_answer_is_an_error(answer: bytes) -> None:
    with raw_server(answer) as url, pytest.raises((OSError, ValueError)):
        get(url, 5)


def test_a_server_that_does_not_answer_is_waited_for_once() -> None:
    with raw_server(b"", stays_open=True) as url:
        transport = GraphQLTransport(url, timeout_s=0.2, plain=True)
        with pytest.raises(BackendUnavailable, match=r"no answer from .*: Read timed out. \(read timeout=0.2\)"):
            transport.execute(QUERY)
        transport.close()


def test_a_header_of_several_lines_is_not_sent() -> None:
    with raw_server(b"") as url, pytest.raises(ValueError, match="Invalid header value"):
        PlainConnection().exchange("GET", url, 5, {"A": "b\r\nC: d"})

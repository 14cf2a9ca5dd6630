"""HTTP: what the endpoints accept, and how everything else is refused."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
import requests

from tests.support.dialect import Client
from tests.support.server import ServerProcess

HELLO = {"data": {"hello": "hello"}}
JSON = {"Content-Type": "application/json"}


def refusal(response: requests.Response, status: int) -> str:
    """Check that the answer is an error in GraphQL's form. Returns its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert list(body) == ["errors"]
    assert response.headers["X-Flowherd-Server"]
    return str(body["errors"][0]["message"])


@pytest.mark.parametrize("path", ["/", "/graphql", "/graphql/", "/graphql/graphql", "/graphql/alpha"])
def test_every_path_of_every_client_is_the_same_endpoint(client: Client, path: str) -> None:
    response = client.server.post(path, json={"query": "{ hello }"})
    assert (response.status_code, response.json()) == (200, HELLO)
    assert response.headers["X-Flowherd-Server"]


@pytest.mark.parametrize("variables", [{"n": "x"}, '{"n": "x"}'])
def test_variables_may_be_an_object_or_a_string_with_one(client: Client, variables: Any) -> None:
    text = "query($n: String) { project(where: {name: {_eq: $n}}) { id } }"
    response = client.server.post("/graphql", json={"query": text, "variables": variables})
    assert response.json() == {"data": {"project": []}}


@pytest.mark.parametrize("body", [{}, {"variables": None}, {"variables": "null"}, {"variables": "{}"}])
def test_variables_may_be_absent_or_empty(client: Client, body: dict[str, Any]) -> None:
    assert client.server.post("/graphql", json={"query": "{ hello }", **body}).json() == HELLO


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"{ hello }"',
        b"\xff\xfe",
        b"{}",
        b'{"query": 3}',
        b'{"query": "{ hello }", "variables": "{"}',
        b'{"query": "{ hello }", "variables": [1]}',
        b'{"query": "{ hello }", "operationName": 3}',
        b'{"query": "{ hello }", "operationName": "other"}',
        b'[{"query": "{ hello }"}]',
        b"[" * 100_000,
        b'{"query": "{ nothing }"}',
        b'{"query": "{ hello"}',
    ],
)
def test_a_malformed_request_is_400(client: Client, body: bytes) -> None:
    assert refusal(client.server.post("/graphql", data=body, headers=JSON), 400)


def test_content_types_that_browsers_send_without_a_preflight_request_are_refused(client: Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        body = json.dumps({"query": "{ hello }"})
        assert "Content-Type" in refusal(client.server.post("/", data=body, headers={"Content-Type": kind}), 400)


def test_a_body_above_the_limit_is_413_and_one_at_the_limit_is_accepted(client: Client) -> None:
    query = json.dumps({"query": "{ hello }"})
    below = query + " " * (16 * 1024 * 1024 - len(query))
    assert client.server.post("/graphql", data=below, headers=JSON).json() == HELLO
    assert "larger" in refusal(client.server.post("/graphql", data=below + " ", headers=JSON), 413)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/graphql", 405), ("DELETE", "/", 405), ("GET", "/nowhere", 404), ("GET", "/poke", 405)],
)
def test_other_paths_and_methods_are_refused_in_the_same_form(
    client: Client, method: str, path: str, status: int
) -> None:
    assert refusal(requests.request(method, client.server.url + path, timeout=30), status)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("localhost", True),
        ("localhost:4200", True),
        ("127.0.0.1:1", True),
        ("[::1]:4200", True),
        ("LOCALHOST", True),
        ("evil.example", False),
        ("evil.example:4200", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_a_loopback_server_answers_only_to_its_own_names(client: Client, host: str, good: bool) -> None:
    """A web page can have its own name resolve to 127.0.0.1 (DNS rebinding)."""
    response = client.server.post("/graphql", json={"query": "{ hello }"}, headers={"Host": host})
    if good:
        assert response.json() == HELLO
    else:
        assert refusal(response, 400)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_pages_of_other_sites_change_nothing(client: Client, origin: str) -> None:
    for path in ("/poke", "/graphql"):
        response = client.server.post(path, json={"query": "{ hello }"}, headers={"Origin": origin})
        assert refusal(response, 403)
    own = client.server.post("/poke", headers={"Origin": client.server.url})
    assert own.status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_pages_of_other_sites_cannot_wait_as_an_agent(client: Client, site: str) -> None:
    """An image of a page is a GET without Origin."""
    agent = client.agent()
    path, fetched = f"/agents/{agent.agent_id}/wake", {"Sec-Fetch-Site": site}
    assert refusal(requests.get(client.server.url + path, headers=fetched, timeout=30), 403)
    assert not agent.connected()
    for open_path in ("/", "/health"):
        assert requests.get(client.server.url + open_path, headers=fetched, timeout=30).ok
    assert requests.get(client.server.url + path, headers={"Sec-Fetch-Site": "none"}, timeout=30).ok


def test_a_request_with_two_ends_is_refused_and_its_connection_closed(client: Client) -> None:
    host, _, port = client.server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        answer = b""
        while data := connection.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer wrong", "Bearer s3cret2", "s3cret", "Basic s3cret", "Basic !", "Bearer \xfcml"],
)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/graphql"), ("GET", "/"), ("POST", "/poke"), ("GET", "/agents/x/wake")]
)
def test_requests_without_the_token_are_refused(
    closed_server: ServerProcess, header: str | None, method: str, path: str
) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    response = requests.request(
        method, closed_server.url + path, json={"query": "{ hello }"}, headers=headers, timeout=30
    )
    assert "UNAUTHENTICATED" in refusal(response, 401)
    assert response.json()["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


def test_requests_with_the_token_are_answered_for_any_host_name(closed_server: ServerProcess) -> None:
    response = closed_server.post("/graphql", json={"query": "{ hello }"}, headers={"Host": "herd.example"})
    assert response.json() == HELLO
    assert closed_server.url.startswith("http://127.0.0.1:")


def test_a_browser_shows_the_page_with_the_token_as_password(closed_server: ServerProcess) -> None:
    asked = requests.get(closed_server.url, timeout=30)
    assert asked.headers["WWW-Authenticate"].startswith("Basic")
    assert requests.get(closed_server.url, auth=("anybody", "s3cret"), timeout=30).ok


def test_health_needs_no_token_but_shows_details_only_with_it(closed_server: ServerProcess, client: Client) -> None:
    assert requests.get(closed_server.url + "/health", timeout=30).json() == {"status": "ok"}
    assert set(closed_server.get("/health").json()) == {"status", "version"}
    assert set(client.server.get("/health").json()) == {"status", "version"}

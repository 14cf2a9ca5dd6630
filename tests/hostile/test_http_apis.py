"""The agent's API and the embedded server answer any request, in time, and never with "internal error"."""

from __future__ import annotations

import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from flowherd.agent.agent_metrics import AgentMetrics
from flowherd.agent.connection import Connection
from flowherd.agent.control import Control
from flowherd.agent.health import Health
from flowherd.agent.http_api import AgentApi, ApiFacts
from flowherd.agent.own_client import open_own_client
from flowherd.agent.platform import Figures
from flowherd.agent.run_records import NoRecords
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.host_figures import read_host
from flowherd.story.agent_report import AgentReport
from flowherd_server.service import SCHEMA
from tests.support.graphql_texts import input_for, operations, selection_for
from tests.support.leftovers import none_left
from tests.support.mutations import RAW_TEXTS, damaged_bytes, fuzz, mutated
from tests.support.server import ServerProcess, running_server

TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for these tests alone, whose stderr must have no traceback."""
    with none_left(), running_server(tmp_path_factory.mktemp("fuzzed") / "data", schedule_ahead=2) as server:
        seed(server)
        yield server
        assert requests.get(server.url + "/health", timeout=10).ok
        assert "Traceback" not in server.stderr


@pytest.fixture(scope="module")
def api() -> Iterator[AgentApi]:
    runs = [{"id": "x", "flow": 'a\nb"c\\', "memory_bytes": 5}]
    connection = Connection(MemoryBackend, lambda _wake: None, lambda: None)
    health, figures = (lambda: Health(well=True)), (lambda: Figures(runs=1))
    facts = ApiFacts(
        name="a",
        health=health,
        poke=lambda: None,
        runs=lambda _looked_at: runs,
        control=Control(lambda: None),
        figures=figures,
        report=AgentReport,
        metrics=AgentMetrics(
            connection=connection,
            health=health,
            runs=lambda _looked_at: runs,
            figures=figures,
            host=lambda: read_host({}),
        ),
        records=NoRecords,
        open_client=lambda: open_own_client(load_settings(), MemoryBackend()),
    )
    api = AgentApi("http://127.0.0.1:0", "", facts)
    api.start()
    yield api
    api.stop()


# -- bare bytes over a socket

METHODS = st.sampled_from(
    [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PATCH", b"get", b"\xff", b""]
)
PATHS = st.one_of(
    st.sampled_from(
        [
            b"/",
            b"/graphql",
            b"/graphql/alpha",
            b"/health",
            b"/poke",
            b"/api/health",
            b"/api/poke",
            b"/api/runs",
            b"/api/agent",
            b"/api/pause",
            b"/api/resume",
            b"/api/drain?deadline_s=nan",
            b"/api/drain?deadline_s=1e999",
            b"/api/restart",
            b"/metrics",
            b"/agents/x/wake",
            b"/agents/" + str(uuid.uuid4()).encode() + b"/wake?seen=0&timeout=0",
            b"/agents/%00/wake",
            b"/agents/../../etc/passwd/wake?seen=1e9&timeout=nan",
            b"/%2e%2e/%2e%2e/etc/passwd",
            b"//evil.example/",
            b"http://evil.example/",
            b"*",
            b"/" + b"a" * 9_000,
            b"/%ff%fe",
            b"/?" + b"&" * 5000,
        ]
    ),
    st.binary(max_size=30),
)
HEADER_NAMES = st.sampled_from(
    [
        b"Host",
        b"Content-Type",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Authorization",
        b"X-PREFECT-AGENT-ID",
        b"X-PREFECT-CORE-VERSION",
        b"Connection",
        b"Upgrade",
        b"Expect",
        b"Cookie",
        b"Origin",
        b"X",
    ]
)
HEADER_VALUES = st.one_of(
    st.sampled_from(
        [
            b"localhost",
            b"[",
            b"",
            b"application/json",
            b"application/json; charset=x",
            b"5",
            b"-1",
            b"99999999999999",
            b"chunked",
            b"Basic \xff",
            b"Bearer \xc3\xbc",
            b"websocket",
            b"100-continue",
            b"upgrade",
            b"close",
            b"a\x00b",
        ]
    ),
    st.binary(max_size=20),
)


@st.composite
def raw_requests(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(min_size=1, max_size=300))
    lines = [b" ".join([draw(METHODS), draw(PATHS), draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9", b""]))])]
    if draw(st.integers(0, 5)):
        lines.append(b"Host: localhost")
    lines += [
        name + b": " + value for name, value in draw(st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=4))
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + draw(st.one_of(st.just(b""), RAW_TEXTS))


def answer_to(port: int, data: bytes) -> bytes:
    """Send bytes and the end of the stream; return all that comes back until the other side closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while len(received) < 1_000_000 and (part := connection.recv(65536)):
                received += part
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def is_internal_error(answer: bytes) -> bool:
    return answer.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5")) and b" 501 " not in answer[:20]


@given(data=raw_requests())
@fuzz(150)
def test_the_agents_api_answers_any_bytes_without_an_internal_error(api: AgentApi, data: bytes) -> None:
    answer = answer_to(port_of(api.address), data)
    assert not is_internal_error(answer), answer[:300]


@given(data=raw_requests())
@fuzz(150)
def test_the_server_answers_any_bytes_without_an_internal_error(server: ServerProcess, data: bytes) -> None:
    answer = answer_to(port_of(server.url), data)
    assert not is_internal_error(answer), answer[:300]


@pytest.mark.parametrize("path", ["/api/health", "/api/runs", "/api/agent", "/metrics"])
@given(host=st.text(max_size=20), token=st.text(max_size=20))
@fuzz(25)
def test_any_header_text_gets_an_answer_of_the_agents_api(api: AgentApi, path: str, host: str, token: str) -> None:
    headers = [b"Host: " + host.encode("utf-8", "replace"), b"Authorization: " + token.encode("utf-8", "replace")]
    clean = [header.replace(b"\r", b"").replace(b"\n", b"") for header in headers]
    answer = answer_to(port_of(api.address), b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *clean, b"\r\n"]))
    assert not is_internal_error(answer), answer[:300]


# -- GraphQL


def seed(server: ServerProcess) -> None:
    """Put rows into every table, so queries find some."""
    flow = {
        "name": "fuzzed",
        "tasks": [{"slug": "t-1", "name": "t", "type": "x"}],
        "edges": [],
        "parameters": [],
        "storage": {"type": "Command", "argv": ["true"]},
        "environment": None,
        "type": "Flow",
    }
    project = ask(server, 'mutation { create_project(input: {name: "p"}) { id } }').json()["data"]["create_project"]
    created = ask(
        server,
        "mutation($input: create_flow_input!) { create_flow(input: $input) { id } }",
        {"input": {"project_id": project["id"], "serialized_flow": flow}},
    ).json()
    flow_id = created["data"]["create_flow"]["id"]
    for _ in range(3):
        ask(server, f'mutation {{ create_flow_run(input: {{flow_id: "{flow_id}"}}) {{ id }} }}')


def ask(server: ServerProcess, text: str, variables: Any = None) -> requests.Response:
    body = json.dumps({"query": text, "variables": variables}).encode()
    headers = {"Content-Type": "application/json"}
    return requests.post(server.url + "/graphql", data=body, headers=headers, timeout=TIMEOUT_S)


def check(response: requests.Response) -> None:
    """Check for a proper answer: data, or errors that each say what is wrong, none of them internal."""
    assert response.status_code in (200, 400, 413), (response.status_code, response.text[:500])
    body = response.json()
    assert set(body) <= {"data", "errors"} and body
    if "errors" in body:
        assert body["errors"]
        for error in body["errors"]:
            assert error["message"]
            assert error["extensions"]["code"] != "INTERNAL_SERVER_ERROR", error
    else:
        assert response.status_code == 200


@given(text=operations())
@fuzz(250)
def test_operations_generated_from_the_schema_get_proper_answers(server: ServerProcess, text: str) -> None:
    check(ask(server, text))


@given(data=st.data())
@fuzz(80)
def test_damaged_texts_of_operations_get_proper_answers(server: ServerProcess, data: st.DataObject) -> None:
    text = data.draw(damaged_bytes(data.draw(operations()).encode()))
    check(ask(server, text.decode("utf-8", "replace")))


@given(data=st.data())
@fuzz(200)
def test_variables_of_any_shape_get_proper_answers(server: ServerProcess, data: st.DataObject) -> None:
    assert SCHEMA.mutation_type is not None
    name = data.draw(st.sampled_from(sorted(SCHEMA.mutation_type.fields)))
    field = SCHEMA.mutation_type.fields[name]
    kind = field.args["input"].type
    selection = selection_for(data.draw, field.type, 0)
    document = {"input": input_for(data.draw, kind, 4)}
    variables = data.draw(st.one_of(st.just(document), mutated(document)))
    check(ask(server, f"mutation($input: {kind}) {{ {name}(input: $input){selection} }}", variables))


@given(
    serialized=mutated(
        {
            "name": "f",
            "tasks": [{"slug": "a", "name": "a", "type": "t"}, {"slug": "b", "name": "b", "type": "t"}],
            "edges": [{"upstream_task": {"slug": "a"}, "downstream_task": {"slug": "b"}, "key": None, "mapped": False}],
            "parameters": [{"name": "n", "required": False, "default": 1, "slug": "n"}],
            "schedule": {"clocks": [{"type": "CronClock", "cron": "0 0 * * *", "start_date": None, "labels": ["x"]}]},
            "storage": {"type": "Command", "argv": ["true"]},
            "environment": {"labels": ["x"]},
            "run_config": {"type": "LocalRun"},
        }
    )
)
@fuzz(150)
def test_flows_of_any_shape_get_proper_answers(server: ServerProcess, serialized: Any) -> None:
    projects = ask(server, "{ project(limit: 1) { id } }").json()["data"]["project"]
    project = projects[0]["id"] if projects else str(uuid.uuid4())
    text = "mutation($input: create_flow_input!) { create_flow(input: $input) { id } }"
    check(ask(server, text, {"input": {"project_id": project, "serialized_flow": serialized}}))


@given(
    state=mutated(
        {
            "type": "Failed",
            "message": "m",
            "context": {"flowherd": {"claim": "c", "at": "2024-01-01T00:00:00Z", "pid": 5}},
            "start_time": "2024-01-01T00:00:00Z",
            "_result": {"type": "NoResultType"},
            "cached_inputs": {},
            "state": {"type": "Scheduled"},
        }
    )
)
@fuzz(150)
def test_states_of_any_shape_get_proper_answers(server: ServerProcess, state: Any) -> None:
    runs = ask(server, "{ flow_run(limit: 5) { id version } }").json()["data"]["flow_run"]
    run = runs[0] if runs else {"id": str(uuid.uuid4()), "version": 1}
    text = (
        "mutation($input: set_flow_run_states_input!) { set_flow_run_states(input: $input) { states { id status } } }"
    )
    change = {"flow_run_id": run["id"], "version": run["version"], "state": state}
    check(ask(server, text, {"input": {"states": [change]}}))
    check(ask(server, "{ flow_run { id state serialized_state state_message start_time end_time heartbeat } }"))
    assert requests.get(server.url + "/", timeout=TIMEOUT_S).status_code == 200

"""Whatever a backend answers: the agent's words for it are "unavailable" and "refused", and its loop goes on."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd import Agent
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.http import MAX_BODY_BYTES
from flowherd.config import load_settings
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan
from flowherd.errors import BackendError, BackendRefused, BackendUnavailable, NotAuthorized, UnsupportedStorage
from flowherd.states import RunState
from flowherd.values import AgentIdentity, Flow, FlowRun, LogLine, StateReport, checked_id
from flowherd_runner.contract.spec import spec_to_json
from tests.support.mutations import RAW_TEXTS, STRANGE_VALUES, damaged_bytes, fuzz, mutated

RUN = str(uuid.UUID(int=7, version=4))
ROW = {
    "id": RUN,
    "name": "a-run",
    "version": 2,
    "state": "Scheduled",
    "serialized_state": {"type": "Scheduled", "context": {"flowherd": {"claim": "t"}}},
    "parameters": {"n": 1},
    "scheduled_start_time": "2024-01-01T00:00:00Z",
    "run_config": {"type": "LocalRun", "env": {"A": "b"}, "limits": {"memory_bytes": 5}, "preload": ["json"]},
    "flow": {
        "id": str(uuid.uuid4()),
        "name": "a flow",
        "version": 1,
        "storage": {"type": "Command", "argv": ["true"]},
        "run_config": None,
        "environment": None,
    },
    "task_runs": [{"id": "t", "task_id": "k", "version": 1, "serialized_state": {"type": "Retrying"}}],
}
#: By a word of the query: what a good server answers.
DATA: dict[str, Any] = {
    "hello": {"hello": "hello"},
    "tenant {": {"tenant": [{"id": str(uuid.uuid4())}]},
    "auth_info": {"auth_info": {"api_token_scope": "RUNNER"}},
    "register_agent": {"register_agent": {"id": "an-agent"}},
    "get_runs_in_queue": {"get_runs_in_queue": {"flow_run_ids": [RUN]}},
    "flow_run(": {"flow_run": [ROW]},
    "set_flow_run_states": {"set_flow_run_states": {"states": [{"id": RUN, "status": "SUCCESS", "message": None}]}},
    "set_task_run_states": {"set_task_run_states": {"states": [{"id": "t", "status": "SUCCESS", "message": None}]}},
    "write_run_logs": {"write_run_logs": {"success": True}},
    "heartbeat": {"h0": {"success": True}},
}


class Answers:
    """A real HTTP server whose answers are set from outside; without that they are good ones."""

    def __init__(self) -> None:
        #: By a word of the query: status, headers, body.
        self.strange: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append(body["query"])
                word = next(word for word in reversed(DATA) if word in body["query"])
                good = (200, {"X-Flowherd-Server": "1"}, json.dumps({"data": DATA[word]}).encode())
                self._send(*outer.strange.get(word, good))

            def do_GET(self) -> None:
                self._send(*outer.strange.get("wake", (200, {}, b'{"sequence": 3}')))

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})


@contextmanager
def serving() -> Iterator[Answers]:
    answers = Answers()
    answers.thread.start()
    try:
        yield answers
    finally:
        answers.http.shutdown()
        answers.thread.join()
        answers.http.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Answers]:
    with serving() as answers:
        yield answers


@pytest.fixture(scope="module")
def backend(server: Answers) -> Iterator[GraphQLBackend]:
    backend = GraphQLBackend(GraphQLTransport(server.url, timeout_s=5))
    yield backend
    backend.close()


def good_flow_run() -> FlowRun:
    return FlowRun(
        id=RUN,
        name="x",
        version=1,
        state=RunState.SCHEDULED,
        serialized_state={"type": "Scheduled"},
        flow=Flow(id="f", name="f"),
    )


NOW = datetime(2024, 1, 1, tzinfo=timezone.utc)
CALLS: dict[str, Any] = {
    "hello": lambda b: b.connect(),
    "tenant {": lambda b: b.connect(),
    "auth_info": lambda b: b.check_token(),
    "register_agent": lambda b: (b.register(AgentIdentity(type="T", name="n", labels=())), b.wait_for_wake(0, 0.1)),
    "get_runs_in_queue": lambda b: b.ready_runs([], set()),
    "flow_run(": lambda b: (b.ready_runs([], set()), b.stored_states([RUN])),
    "set_flow_run_states": lambda b: (
        b.claim(good_flow_run(), "t"),
        b.report(StateReport(flow_run_id=RUN, state=RunState.RUNNING, message="", at=NOW)),
    ),
    "write_run_logs": lambda b: b.write_logs(
        [LogLine(flow_run_id=RUN, at=NOW, stream="stdout", level=20, logger="", message="x")]
    ),
    "heartbeat": lambda b: b.heartbeat([RUN]),
    "wake": lambda b: b.wait_for_wake(0, 0.1),
}
HEADERS = st.dictionaries(
    st.sampled_from(["X-Flowherd-Server", "Retry-After", "Content-Type", "Content-Encoding", "Location"]),
    st.sampled_from(["", "1", "-1", "nan", "inf", "1e300", "x", "gzip", "text/html", "\xfc", "/elsewhere"]),
    max_size=2,
)
STATUS = st.sampled_from([200, 200, 200, 200, 200, 400, 401, 403, 404, 302, 429, 500, 503, 299, 600])


@st.composite
def strange_answers(draw: st.DrawFn) -> tuple[str, tuple[int, dict[str, str], bytes]]:
    word = draw(st.sampled_from(sorted(CALLS)))
    good = {"sequence": 3} if word == "wake" else {"data": DATA[word]}
    kind = draw(st.integers(0, 9))
    if kind == 0:
        body = draw(RAW_TEXTS)
    elif kind == 1:
        body = draw(damaged_bytes(json.dumps(good).encode()))
    elif kind == 2:
        error = {"message": draw(STRANGE_VALUES), "extensions": {"code": draw(STRANGE_VALUES)}}
        body = json.dumps({"errors": draw(st.sampled_from([[error], error, [[]], [None], "x"]))}).encode()
    else:
        body = json.dumps(draw(mutated(good))).encode()
    return word, (draw(STATUS), draw(HEADERS), body)


@given(answer=strange_answers())
@fuzz(400)
def test_a_strange_answer_is_unavailable_or_refused_and_never_anything_else(
    server: Answers, backend: GraphQLBackend, answer: tuple[str, tuple[int, dict[str, str], bytes]]
) -> None:
    word, strange = answer
    server.strange = {word: strange}
    try:
        CALLS[word](backend)
    except BackendError as error:
        str(error).encode()
        assert isinstance(error, (BackendUnavailable, BackendRefused))
        if isinstance(error, BackendUnavailable) and error.retry_after_s is not None:
            assert 0 <= error.retry_after_s <= 900
    finally:
        server.strange = {}


@given(row=mutated(ROW))
@fuzz(300)
def test_what_is_handed_out_can_be_planned_or_is_unsupported(
    server: Answers, backend: GraphQLBackend, row: Any
) -> None:
    body = json.dumps({"data": {"flow_run": [row, ROW]}}).encode()
    server.strange = {"flow_run(": (200, {"X-Flowherd-Server": "1"}, body)}
    try:
        found = backend.ready_runs([], set())
    except BackendUnavailable:
        return
    finally:
        server.strange = {}
    for flow_run in found:
        assert checked_id(flow_run.id) == flow_run.id == RUN
        try:
            made = plan(flow_run, AgentDefaults(), "claim")
        except UnsupportedStorage:
            continue
        json.dumps(spec_to_json(made), allow_nan=False)


def test_one_bad_run_in_the_queue_does_not_keep_the_others(server: Answers, backend: GraphQLBackend) -> None:
    other = str(uuid.uuid4())
    queue = {"data": {"get_runs_in_queue": {"flow_run_ids": ["../../x", 5, None, [], "a\x00b", other, RUN, RUN]}}}
    rows = {"data": {"flow_run": [{**ROW, "id": other, "version": "x"}, ROW, {"id": "../../x"}]}}
    server.strange = {
        "get_runs_in_queue": (200, {}, json.dumps(queue).encode()),
        "flow_run(": (200, {}, json.dumps(rows).encode()),
    }
    try:
        assert [flow_run.id for flow_run in backend.ready_runs([], set())] == [RUN]
    finally:
        server.strange = {}


def test_a_huge_answer_is_not_taken_into_memory(server: Answers, backend: GraphQLBackend) -> None:
    server.strange = {"hello": (200, {}, b" " * (MAX_BODY_BYTES + 1_000_000))}
    try:
        with pytest.raises(BackendUnavailable, match="more than"):
            backend.connect()
    finally:
        server.strange = {}


class Recorder(Agent):
    """Deploys nothing, and remembers what it was to deploy."""

    deployed: list[str]

    def deploy_flow(self, flow_run: FlowRun) -> str:
        self.deployed.append(flow_run.id)
        return "nowhere"


@given(answers=st.lists(strange_answers(), min_size=1, max_size=4))
@fuzz(80)
def test_the_loop_goes_on_whatever_was_answered(
    server: Answers, answers: list[tuple[str, tuple[int, dict[str, str], bytes]]]
) -> None:
    agent = Recorder(settings=load_settings({"cloud.api": server.url, "cloud.request_timeout": 5}))
    agent.deployed = []
    server.strange = {word: answer for word, answer in answers if word != "wake"}
    try:
        poll(agent)
        server.strange = {}
        poll(agent)
        # What was claimed with an answer that could not be understood is looked up, and is another's ("t").
        assert set(agent.deployed) <= {RUN}
        poll(agent)
        assert agent.submitting_flow_runs == set()
        # A server that does not say that it arbitrates is read back, and there the claim is another's.
        assert RUN in agent.deployed or not (agent._capabilities and agent._capabilities.arbitrates)
    finally:
        server.strange = {}
        agent.cleanup()


def poll(agent: Agent) -> None:
    with ThreadPoolExecutor(2) as executor:
        try:
            agent.agent_process(executor)
        except NotAuthorized:
            pass

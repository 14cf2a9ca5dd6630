"""Strange answers of a GraphQL backend: each is "unavailable" or "refused", and the agent's loop continues."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
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
from flowherd.values import AgentIdentity, Claim, Flow, FlowRun, LogLine, StateReport, checked_id
from flowherd_runner.contract.spec import spec_to_json
from tests.support.http_server import Answer, Request, http_server
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
#: The data of a good answer, by a word of the query.
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
    "offer_runs": {"offer_runs": {"flow_runs": [ROW]}},
    "claim_runs": {"claim_runs": {"claims": [{"flow_run_id": RUN, "won": True, "message": None}]}},
    "heartbeat": {"h0": {"success": True}},
}


#: The address of a wake request, as a word for `StrangeServer.strange`.
WAKE = "wake"


class StrangeServer:
    """A server whose answers a test sets; all others are good ones."""

    def __init__(self) -> None:
        self.url = ""
        #: Answers by a word of the query, or WAKE.
        self.strange: dict[str, Answer] = {}

    def answer(self, request: Request) -> Answer:
        if request.method == "GET":
            return self.strange.get(WAKE, Answer(body=b'{"sequence": 3}'))
        query = json.loads(request.body)["query"]
        word = next(word for word in reversed(DATA) if word in query)
        good = Answer(headers={"X-Flowherd-Server": "1"}, body=json.dumps({"data": DATA[word]}).encode())
        return self.strange.get(word, good)


@pytest.fixture(scope="module")
def server() -> Iterator[StrangeServer]:
    strange = StrangeServer()
    with http_server(strange.answer) as strange.url:
        yield strange


@pytest.fixture(scope="module")
def backend(server: StrangeServer) -> Iterator[GraphQLBackend]:
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
    "offer_runs": lambda b: b.offered_runs([], set(), 1),
    "claim_runs": lambda b: b.claim_many([Claim(flow_run=good_flow_run(), token="t")]),
    "heartbeat": lambda b: b.heartbeat([RUN]),
    WAKE: lambda b: b.wait_for_wake(0, 0.1),
}
HEADERS = st.dictionaries(
    st.sampled_from(["X-Flowherd-Server", "Retry-After", "Content-Type", "Content-Encoding", "Location"]),
    st.sampled_from(["", "1", "-1", "nan", "inf", "1e300", "x", "gzip", "text/html", "\xfc", "/elsewhere"]),
    max_size=2,
)
STATUS = st.sampled_from([200, 200, 200, 200, 200, 400, 401, 403, 404, 302, 429, 500, 503, 299, 600])


@st.composite
def strange_answers(draw: st.DrawFn) -> tuple[str, Answer]:
    word = draw(st.sampled_from(sorted(CALLS)))
    good = {"sequence": 3} if word == WAKE else {"data": DATA[word]}
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
    return word, Answer(status=draw(STATUS), headers=draw(HEADERS), body=body)


@given(answer=strange_answers())
@fuzz(400)
def test_a_strange_answer_is_unavailable_or_refused_and_raises_no_other_error(
    server: StrangeServer, backend: GraphQLBackend, answer: tuple[str, Answer]
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
def test_a_run_that_is_handed_out_can_be_planned_or_is_unsupported(
    server: StrangeServer, backend: GraphQLBackend, row: Any
) -> None:
    body = json.dumps({"data": {"flow_run": [row, ROW]}}).encode()
    server.strange = {"flow_run(": Answer(headers={"X-Flowherd-Server": "1"}, body=body)}
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


def test_a_run_that_cannot_be_read_does_not_block_the_others(server: StrangeServer, backend: GraphQLBackend) -> None:
    other = str(uuid.uuid4())
    queue = {"data": {"get_runs_in_queue": {"flow_run_ids": ["../../x", 5, None, [], "a\x00b", other, RUN, RUN]}}}
    rows = {"data": {"flow_run": [{**ROW, "id": other, "version": "x"}, ROW, {"id": "../../x"}]}}
    server.strange = {
        "get_runs_in_queue": Answer(body=json.dumps(queue).encode()),
        "flow_run(": Answer(body=json.dumps(rows).encode()),
    }
    try:
        assert [flow_run.id for flow_run in backend.ready_runs([], set())] == [RUN]
    finally:
        server.strange = {}


def test_a_huge_answer_is_not_read_into_memory(server: StrangeServer, backend: GraphQLBackend) -> None:
    server.strange = {"hello": Answer(body=b" " * (MAX_BODY_BYTES + 1_000_000))}
    try:
        with pytest.raises(BackendUnavailable, match="more than"):
            backend.connect()
    finally:
        server.strange = {}


class Recorder(Agent):
    """Deploys nothing and records what it should deploy."""

    deployed: list[str]

    def deploy_flow(self, flow_run: FlowRun) -> str:
        self.deployed.append(flow_run.id)
        return "nowhere"


@given(answers=st.lists(strange_answers(), min_size=1, max_size=4))
@fuzz(80)
def test_the_agents_loop_continues_after_strange_answers(
    server: StrangeServer, answers: list[tuple[str, Answer]]
) -> None:
    agent = Recorder(settings=load_settings({"cloud.api": server.url, "cloud.request_timeout": 5}))
    agent.deployed = []
    server.strange = {word: answer for word, answer in answers if word != WAKE}
    try:
        poll(agent)
        server.strange = {}
        poll(agent)
        # A claim whose answer was not understood is looked up, and the run is found claimed by another agent ("t").
        assert set(agent.deployed) <= {RUN}
        poll(agent)
        assert agent.submitting_flow_runs == set()
        # If the server does not arbitrate, the claim is read back, and it is the other agent's.
        capabilities = agent._own_connection.capabilities
        is_left = agent._own_connection.pause_s() > 0  # the server has asked for a pause
        assert RUN in agent.deployed or is_left or not (capabilities and capabilities.arbitrates)
    finally:
        server.strange = {}
        agent.cleanup()


def poll(agent: Agent) -> None:
    with ThreadPoolExecutor(2) as executor:
        try:
            agent.agent_process(executor)
        except NotAuthorized:
            pass

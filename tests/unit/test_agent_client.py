"""`Agent.client`: what it sends where, what is sent again, and which errors it raises; over real HTTP."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from flowherd import Agent, AuthorizationError, BackendRefused, BackendUnavailable, NoClient, NotAuthorized
from flowherd.backends.graphql.client_states import ClientState, read_state
from flowherd.backends.graphql.query_text import query_text
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.states import RunState
from tests.support.http_server import Answer, CannedServer, canned_server

HELLO = Answer(body=b'{"data": {"hello": "there"}}')


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with canned_server() as server:
        server.answers = [HELLO]
        yield server


@pytest.fixture
def agent(canned: CannedServer) -> Iterator[Agent]:
    made = Agent(settings=load_settings({"cloud.api": canned.url, "cloud.agent.auth_token": "se-cret"}))
    yield made
    made.backend.close()


def errors(message: str, code: str) -> Answer:
    return Answer(body=json.dumps({"errors": [{"message": message, "extensions": {"code": code}}]}).encode())


def test_requests_carry_the_token_the_attached_headers_and_their_own(agent: Agent, canned: CannedServer) -> None:
    agent.client.attach_headers({"X-Gate": "open"})
    assert agent.client.graphql("query { hello }", headers={"X-Own": "1"}).data.hello == "there"
    agent.client.graphql("query { hello }", token="other")
    agent.backend.connect()
    first, second, third = (request.headers for request in canned.requests[:3])
    assert (first["Authorization"], first["X-Gate"], first["X-Own"]) == ("Bearer se-cret", "open", "1")
    assert (second["Authorization"], second.get("X-Own")) == ("Bearer other", None)
    assert (third["Authorization"], third["X-Gate"]) == ("Bearer se-cret", "open")


def test_another_server_gets_neither_token_nor_attached_headers(agent: Agent, canned: CannedServer) -> None:
    agent.client.attach_headers({"X-Gate": "open"})
    with canned_server() as other:
        other.answers = [Answer(body=b'{"found": 1}')]
        assert agent.client.get("v1/things", server=f"{other.url}/api/", params={"n": 5}) == {"found": 1}
        (request,) = other.requests
    assert request.path == "/api/v1/things?n=5"
    assert not {"Authorization", "X-Gate"} & set(request.headers)
    assert canned.requests == []


def test_a_request_without_an_answer_is_sent_again_unless_that_is_not_wanted(
    agent: Agent, canned: CannedServer
) -> None:
    canned.answers = [Answer(status=503), errors("try again", "API_ERROR"), HELLO]
    assert agent.client.graphql("query { hello }").data.hello == "there"
    assert len(canned.requests) == 3
    canned.answers = [Answer(status=503), HELLO]
    with pytest.raises(BackendUnavailable):
        agent.client.graphql("query { hello }", retry_on_api_error=False)


def test_a_server_that_asks_for_a_longer_pause_is_left_alone(agent: Agent, canned: CannedServer) -> None:
    canned.answers = [Answer(status=503, headers={"Retry-After": "60"})]
    with pytest.raises(BackendUnavailable):
        agent.client.graphql("query { hello }")
    with pytest.raises(BackendUnavailable, match="asked not to be contacted"):
        agent.client.graphql("query { hello }")
    assert len(canned.requests) == 1


def test_a_refusal_of_one_request_does_not_end_the_agent(agent: Agent, canned: CannedServer) -> None:
    canned.answers = [errors("UNAUTHENTICATED", "UNAUTHENTICATED"), Answer(status=403), HELLO]
    for _ in range(2):
        with pytest.raises(AuthorizationError):
            agent.client.graphql("query { secrets }")
    assert agent._own_connection.refused is None
    assert agent.client.graphql("query { hello }").data.hello == "there"


def test_the_token_is_known_without_a_server() -> None:
    agent = Agent(settings=load_settings({"cloud.agent.auth_token": "se-cret"}))
    assert agent.client.get_auth_token() == agent.client._api_token == agent.client.api_key == "se-cret"
    assert agent.client.logger is agent.logger


@pytest.mark.parametrize("backend", [None, MemoryBackend()])
def test_an_agent_of_another_backend_has_no_client_and_says_so(backend: MemoryBackend | None) -> None:
    agent = Agent(backend=backend, settings=load_settings({"prefect3.pool": "herd"}))
    assert not hasattr(agent, "client") and getattr(agent, "client", None) is None
    with pytest.raises(NoClient, match=r"no `client`, because its backend \((prefect3|MemoryBackend)\)"):
        _ = agent.client


def test_a_subclass_can_put_its_own_client_there(agent: Agent) -> None:
    mine: Any = object()
    agent.client = mine
    assert agent.client is mine


def test_what_a_client_does_not_have_is_an_attribute_error_that_says_what_to_use(agent: Agent) -> None:
    with pytest.raises(AttributeError, match="has no 'create_flow_run'; its method graphql"):
        agent.client.create_flow_run(flow_id="f")
    with pytest.raises(AttributeError, match="unset"):
        _ = agent.client.unset


def test_errors_are_also_of_prefects_classes_if_the_program_uses_prefect(
    agent: Agent, canned: CannedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classes are those of Prefect 0.13, and ObjectNotFoundError, which came later."""
    theirs: Any = types.ModuleType("prefect.utilities.exceptions")
    theirs.ClientError = type("ClientError", (Exception,), {})
    theirs.AuthorizationError = type("AuthorizationError", (theirs.ClientError,), {})
    theirs.ObjectNotFoundError = type("ObjectNotFoundError", (theirs.ClientError,), {})
    theirs.VersionLockError = type("VersionLockError", (Exception,), {})
    monkeypatch.setitem(sys.modules, theirs.__name__, theirs)
    cases = [
        ("x", "OTHER", theirs.ClientError, BackendRefused),
        ("UNAUTHENTICATED", "UNAUTHENTICATED", theirs.AuthorizationError, NotAuthorized),
        ("x", "VERSION_LOCKING_ERROR", theirs.VersionLockError, BackendRefused),
        ("x", "NOT_FOUND", theirs.ObjectNotFoundError, BackendRefused),
    ]
    for message, code, their_class, our_class in cases:
        canned.answers = [errors(message, code)]
        with pytest.raises(their_class, match=message) as caught:
            agent.client.graphql("query { hello }")
        assert isinstance(caught.value, our_class) and caught.value.code == code


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("query { hello }", "query { hello }"),
        ({"query": {"flow_run": ["id", {"flow": {"name"}}]}}, "query { flow_run { id flow { name } } }"),
        ({"query": {"a": True, "b": ..., "c": "d"}}, "query { a b c { d } }"),
        ({"mutation": {"x(input: $input)": {"id": True}.keys()}}, "mutation { x(input: $input) { id } }"),
    ],
)
def test_nested_documents_become_text(document: object, text: str) -> None:
    assert query_text(document) == text


def test_a_state_without_prefect_answers_what_it_is() -> None:
    questions = ("is_pending", "is_scheduled", "is_running", "is_finished", "is_successful", "is_failed")
    expected = {
        "Retrying": "is_pending is_scheduled",
        "Queued": "is_pending",
        "Cancelling": "is_running",
        "Cached": "is_finished is_successful",
        "TimedOut": "is_finished is_failed",
        "Cancelled": "is_finished",
    }
    for type_, yes in expected.items():
        state = read_state({"type": type_})
        assert " ".join(name for name in questions if getattr(state, name)()) == yes
    assert isinstance(state, ClientState) and state.message is None and state.serialize()["type"] == "Cancelled"
    assert read_state(None).is_pending()
    for one in RunState:
        state = read_state({"type": one.value})
        assert state.is_pending() + state.is_running() + state.is_finished() == 1, one

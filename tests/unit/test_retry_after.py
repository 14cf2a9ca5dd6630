"""A Retry-After, in seconds or as a date, is read from every answer of every backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.prefect3.events import WakeEvents
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendUnavailable
from tests.support.http_server import Answer, CannedServer, canned_server


@pytest.fixture
def canned() -> Iterator[CannedServer]:
    with canned_server() as server:
        yield server


def pause_of(canned: CannedServer, call: Callable[[], object]) -> float | None:
    with pytest.raises(BackendUnavailable) as caught:
        call()
    assert len(canned.requests) == 1
    return caught.value.retry_after_s


@pytest.mark.parametrize("kind", ["execute", "get", "post"])
@pytest.mark.parametrize("status", [429, 503])
def test_of_the_graphql_api(canned: CannedServer, kind: str, status: int) -> None:
    canned.answers = [Answer(status=status, headers={"Retry-After": "7"})]
    transport = GraphQLTransport(canned.url, timeout_s=5)
    calls: dict[str, Callable[[], object]] = {
        "execute": lambda: transport.execute("query { hello }"),
        "get": lambda: transport.get("/agents/5/wake", {}, 5),
        "post": lambda: transport.post("/poke", 5),
    }
    assert pause_of(canned, calls[kind]) == 7.0
    transport.close()


@pytest.mark.parametrize("kind", ["get", "post", "patch", "events"])
@pytest.mark.parametrize("status", [429, 503])
def test_of_prefect_3(canned: CannedServer, kind: str, status: int) -> None:
    canned.answers = [Answer(status=status, headers={"retry-after": "7"})]
    transport = Prefect3Transport(f"{canned.url}/api", timeout_s=5)
    events = WakeEvents(transport, lambda: "pool-id", lambda: False)
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: transport.get("/x"),
        "post": lambda: transport.post("/x", {}),
        "patch": lambda: transport.patch("/x", {}),
        "events": lambda: events.wait(0, 0.1),
    }
    assert pause_of(canned, calls[kind]) == 7.0
    transport.close()


def test_events_that_are_refused_for_another_reason_name_no_pause(canned: CannedServer) -> None:
    canned.answers = [Answer(status=403, headers={"Retry-After": "7"})]
    events = WakeEvents(Prefect3Transport(f"{canned.url}/api"), lambda: "pool-id", lambda: False)
    assert pause_of(canned, lambda: events.wait(0, 0.1)) is None


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        ("Tue, 24 Nov 2026 10:00:09 GMT", "Tue, 24 Nov 2026 10:00:02 GMT", 7.0),  # by the server's clock, not by ours
        ("Tue, 24 Nov 2026 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:02 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:36 GMT", 1.0),
        ("Fri, 24 Dec 2027 10:00:00 GMT", "Tue, 24 Nov 2026 10:00:00 GMT", 900.0),
        ("soon", "Tue, 24 Nov 2026 10:00:02 GMT", None),
        ("-3", "", None),
        ("nan", "", None),
    ],
)
@pytest.mark.parametrize("api", ["graphql", "prefect3"])
def test_it_may_be_a_date(canned: CannedServer, api: str, retry_after: str, date: str, seconds: float | None) -> None:
    canned.answers = [Answer(status=429, headers={"Retry-After": retry_after, "Date": date})]
    if api == "graphql":
        graphql = GraphQLTransport(canned.url, timeout_s=5)
        assert pause_of(canned, lambda: graphql.execute("query { hello }")) == seconds
        graphql.close()
    else:
        prefect3 = Prefect3Transport(f"{canned.url}/api", timeout_s=5)
        assert pause_of(canned, lambda: prefect3.get("/x")) == seconds
        prefect3.close()


def test_the_message_says_how_long_the_pause_is(canned: CannedServer) -> None:
    canned.answers = [Answer(status=429, headers={"Retry-After": "30"})]
    transport = GraphQLTransport(canned.url, timeout_s=5)
    with pytest.raises(BackendUnavailable, match=r"/graphql answered HTTP 429 and asks for a pause of 30 s$"):
        transport.execute("query { hello }")
    transport.close()

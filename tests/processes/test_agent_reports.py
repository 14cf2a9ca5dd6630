"""What agents report of themselves: with the requests that they make anyway, over the lane and over HTTP."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from flowherd import __version__
from flowherd.agent.platform import Figures
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.protocol import ServerCapabilities
from tests.support.agents import RecordingAgent, going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("reports") / "data") as server:
        yield server


def stored(server: ServerProcess, name: str) -> dict[str, Any]:
    """The agent of this name as the server shows it."""
    query = f'{{ agent(where: {{name: {{_eq: "{name}"}}}}) {{ report reported last_queried }} }}'
    found = Client(server).ask(query)["agent"]
    return dict(found[0]) if found else {"report": None}


def transport(server: ServerProcess) -> GraphQLTransport:
    return GraphQLTransport(server.url)


class Asks:
    """Counts the requests for runs, and those that carry a report."""

    def __init__(self) -> None:
        self.requests = 0
        self.reports = 0


def counted(backend: GraphQLBackend) -> Asks:
    asks = Asks()
    ask = backend.offered_runs

    def offered_runs(*given: Any) -> Any:
        asks.requests += 1
        asks.reports += backend._report is not None
        return ask(*given)

    backend.offered_runs = offered_runs  # type: ignore[method-assign]
    return asks


@pytest.mark.parametrize("over", ["lane", "http"])
def test_an_agent_reports_itself_once_and_again_when_it_is_paused(server: ServerProcess, over: str) -> None:
    backend = GraphQLBackend(transport(server)) if over == "http" else LaneBackend(transport(server), 15.0)
    asks = counted(backend)
    agent = RecordingAgent(name=over, labels=["reports"], no_cloud_logs=True, backend=backend)
    with going(agent):
        wait_until(lambda: stored(server, over)["report"], what="a report")
        row = stored(server, over)
        report = row["report"]
        assert (report["version"], report["pid"], report["instance"]) == (
            __version__,
            os.getpid(),
            agent.control.instance,
        )
        assert (report["hold"], report["limit"], report["runs"], report["cpus"]) == ("", None, 0, os.cpu_count())
        assert row["reported"] is not None
        wait_until(lambda: asks.requests > 5, what="more polls")
        assert asks.reports == 1, "what has not changed is not reported again"
        agent.control.pause()
        wait_until(lambda: stored(server, over)["report"]["hold"] == "paused", what="the pause")
        assert "flowherd resume" in stored(server, over)["report"]["hold_reason"]
        assert "flowherd resume" in server.get("/").text, "the status page says why an agent claims nothing"
    wait_until(lambda: stored(server, over)["report"]["hold"] == "stopping", what="the farewell")


def test_an_agent_that_cannot_report_itself_polls_all_the_same(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = RecordingAgent(name="odd", labels=["odd"], no_cloud_logs=True, backend=GraphQLBackend(transport(server)))

    def figures() -> Figures:
        raise OSError("no such directory")

    monkeypatch.setattr(agent._own_platform, "figures", figures)
    client = Client(server)
    with going(agent):
        run_id = client.create_run(labels=["odd"])
        wait_until(lambda: run_id in agent.deployed, what="the run")
    assert stored(server, "odd")["report"] is None


class ThatKeepsNone(GraphQLBackend):
    """What a server lets an agent know that shares runs and keeps no reports."""

    def connect(self) -> ServerCapabilities:
        return replace(super().connect(), keeps_agent_reports=False)


def test_a_server_that_keeps_no_reports_is_sent_none(server: ServerProcess) -> None:
    backend = ThatKeepsNone(transport(server))
    asks = counted(backend)
    with going(RecordingAgent(name="old", labels=["old"], no_cloud_logs=True, backend=backend)):
        wait_until(lambda: asks.requests > 3, what="some polls")
    assert asks.reports == 0
    assert stored(server, "old")["report"] is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("nonsense", None),
        ([1], None),
        ({"host": 5, "limit": True, "load": 1e400, "cpus": 1 << 70, "more": "x"}, {}),
        ({"host": "h" * 600, "limit": 8, "load": 0.5}, {"host": "h" * 500, "limit": 8, "load": 0.5}),
    ],
    ids=["text", "list", "wrong-types", "long"],
)
def test_of_a_report_that_is_none_only_what_can_be_read_is_kept(server: ServerProcess, sent: Any, kept: Any) -> None:
    agent = Client(server).agent("odd")
    agent.do("offer_runs", holder="odd", labels=["odd"], room=1, report=sent)
    query = f'{{ agent_by_pk(id: "{agent.agent_id}") {{ report reported }} }}'
    row = agent.ask(query)["agent_by_pk"]
    if kept is None:
        assert row == {"report": None, "reported": None}
    else:
        assert {name: value for name, value in row["report"].items() if value not in (None, "")} == kept


def test_figures_of_runs_are_shown_with_the_runs_and_not_stored(server: ServerProcess) -> None:
    client = Client(server)
    agent = client.agent("figures")
    run_id = client.create_run(labels=["figures"])
    figures = {"id": run_id, "at": 1000.0, "memory_bytes": 5, "cpu_share": 0.5, "tree": [{"pid": 7, "command": "x"}]}
    agent.do("offer_runs", holder="f", labels=["none"], room=1, report={"instance": "f", "run_figures": [figures]})
    row = client.ask(f'{{ flow_run_by_pk(id: "{run_id}") {{ figures curve processes stuck }} }}')["flow_run_by_pk"]
    assert row == {"figures": figures, "curve": [[1000.0, 5, 0.5]], "processes": figures["tree"], "stuck": None}
    report = client.ask(f'{{ agent_by_pk(id: "{agent.agent_id}") {{ report reported }} }}')["agent_by_pk"]["report"]
    assert report["instance"] == "f" and "run_figures" not in report

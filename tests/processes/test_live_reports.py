"""Figures of running runs, from the agent to the server's answers, and what an agent is asked over the server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.agent import live_reports
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.config import load_settings
from flowherd.host import run_meter
from tests.support.agents import RecordingAgent, going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

TOKEN = "of-this-server"
#: Writes one line, then uses a processor until it is ended.
BUSY = {"type": "Command", "argv": ["sh", "-c", "sleep 60 & echo begun; while :; do :; done"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("live") / "data", TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One without a token."""
    with none_left(), running_server(tmp_path_factory.mktemp("open") / "data") as server:
        yield server


def backend_at(server: ServerProcess, over: str) -> GraphQLBackend:
    transport = GraphQLTransport(server.url, token=server.token)
    return GraphQLBackend(transport) if over == "http" else LaneBackend(transport, 15.0)


def agent_row(server: ServerProcess, name: str) -> dict[str, Any]:
    found = Client(server).ask(f'{{ agent(where: {{name: {{_eq: "{name}"}}}}) {{ id live }} }}')["agent"]
    return dict(found[0]) if found else {}


@contextmanager
def reporting(server: ServerProcess, agent: Any, name: str) -> Iterator[str]:
    """Run the agent; yield its id once it has reported."""
    with going(agent):
        wait_until(lambda: agent_row(server, name).get("live"), what="a report")
        yield agent_row(server, name)["id"]


def answer(server: ServerProcess, order_id: str) -> str | None:
    outcome: str | None = Client(server).ask(f'{{ agent_order(id: "{order_id}") {{ outcome }} }}')["agent_order"][
        "outcome"
    ]
    return outcome


def ask(server: ServerProcess, agent_id: str, action: str, **given: Any) -> str:
    """Ask the agent; return what came of it."""
    order_id = Client(server).do("ask_agent", agent_id=agent_id, action=action, **given)["order_id"]
    return wait_until(lambda: [found] if (found := answer(server, order_id)) is not None else None, what=action)[0]


@pytest.mark.parametrize("over", ["lane", pytest.param("http", marks=pytest.mark.full)])
def test_the_figures_of_a_run_are_there_when_somebody_asks(
    server: ServerProcess, over: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_reports, "REPORT_S", 0.2)
    monkeypatch.setattr(run_meter, "_STEP_S", 0.2)
    monkeypatch.setattr(run_meter, "_SHARE_OVER_S", 0.4)
    client = Client(server)
    agent = LocalAgent(name=over, labels=[over], hostname_label=False, backend=backend_at(server, over))
    with reporting(server, agent, over):
        run_id = client.create_run(client.flow(storage=BUSY), labels=[over])
        wait_until(lambda: client.run(run_id)["state"] == "Running", what="its start")

        def figures(least: float) -> Any:
            found = client.run(run_id, "figures")["figures"]
            return found if found is not None and found["processes"] == 2 and found["cpu_time_s"] >= least else None

        first = wait_until(lambda: figures(0.0), what="figures without waiting for the report of a minute")
        assert first["memory_bytes"] > 0 and first["id"] == run_id
        later = wait_until(lambda: figures(first["cpu_time_s"] + 0.1), what="later figures")
        assert later["at"] > first["at"] and later["peak_memory_bytes"] >= later["memory_bytes"]
        share = wait_until(lambda: client.run(run_id, "figures")["figures"].get("cpu_share"), what="its share")
        assert 0.05 < share < 2
        processes = wait_until(lambda: client.run(run_id, "processes")["processes"], what="its processes")
        commands = [one["command"] for one in processes]
        assert commands[0].startswith("sh -c") and "sleep 60" in commands, "parents come first"
        assert processes[1]["parent"] == processes[0]["pid"]
        wait_until(lambda: len(client.run(run_id, "curve")["curve"]) >= 2, what="its curve")
        client.do("cancel_flow_run", flow_run_id=run_id)
        wait_until(lambda: client.run(run_id)["state"] == "Cancelled", what="its end")
        assert client.run(run_id, "figures curve processes") == {"figures": None, "curve": [], "processes": []}


def test_figures_come_again_after_the_server_was_started_again(open_server: ServerProcess) -> None:
    client = Client(open_server)
    agent = RecordingAgent(name="stays", labels=["stays"], no_cloud_logs=True, backend=backend_at(open_server, "lane"))
    with reporting(open_server, agent, "stays"):
        open_server.restart()
        client.ask("{ flow_run { figures } }")
        wait_until(lambda: agent_row(open_server, "stays").get("live"), what="a report to the new server")
        first = agent_row(open_server, "stays")["live"]["reported_at"]

        def is_reported_again() -> bool:
            client.ask("{ flow_run { figures } }")
            return bool(agent_row(open_server, "stays")["live"]["reported_at"] > first)

        wait_until(is_reported_again, what="reports while somebody watches")


def test_an_agent_that_waits_for_its_runs_goes_on_reporting(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_reports, "_UNWATCHED_S", 0.1)
    client, backend = Client(server), backend_at(server, "lane")
    agent = LocalAgent(name="drains", labels=["drains"], hostname_label=False, backend=backend)
    until = {"type": "Command", "argv": ["sh", "-c", f"until [ -e {tmp_path}/end ]; do sleep 0.05; done"]}

    def live() -> Any:
        return agent_row(server, "drains")["live"]

    with reporting(server, agent, "drains") as agent_id:
        run_id = client.create_run(client.flow(storage=until), labels=["drains"])
        wait_until(lambda: client.run(run_id)["state"] == "Running", what="its start")
        assert ask(server, agent_id, "drain") == ""
        wait_until(lambda: live()["hold"] == "draining", what="that it drains")
        asked = live()["reported_at"]
        wait_until(lambda: live()["reported_at"] > asked + 0.2, what="later reports")
        assert client.run(run_id, "figures")["figures"]["processes"] >= 1
        (tmp_path / "end").touch()
    assert client.run(run_id)["state"] == "Success"


@pytest.mark.parametrize("over", ["lane", "http"])
def test_an_agent_is_paused_resumed_and_drained_over_the_server(server: ServerProcess, over: str) -> None:
    name = f"orders-{over}"
    agent = RecordingAgent(name=name, labels=[name], no_cloud_logs=True, backend=backend_at(server, over))
    with reporting(server, agent, name) as agent_id:
        assert ask(server, agent_id, "pause") == ""
        assert agent.control.paused
        wait_until(lambda: agent_row(server, name)["live"]["hold"] == "paused", what="its report")
        assert ask(server, agent_id, "resume") == ""
        assert not agent.control.paused
        assert "does not restart it" in ask(server, agent_id, "restart")
        assert agent.control.shutdown_request is None
        assert ask(server, agent_id, "drain", deadline_s=5) == ""
        request = wait_until(lambda: agent.control.shutdown_request, what="its stop")
        assert (request.on_stop, request.deadline_s, request.start_again) == ("drain", 5, False)


def test_an_agent_that_may_start_again_restarts(server: ServerProcess) -> None:
    agent = RecordingAgent(name="again", labels=["again"], no_cloud_logs=True, backend=backend_at(server, "lane"))
    agent.control.may_restart = True
    with reporting(server, agent, "again") as agent_id:
        assert ask(server, agent_id, "restart") == ""
        wait_until(lambda: agent.is_to_start_again, what="its stop")


def test_an_agent_whose_setting_forbids_it_is_asked_nothing(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWHERD__AGENT__REMOTE", "false")
    agent = RecordingAgent(name="own", no_cloud_logs=True, settings=load_settings(), backend=backend_at(server, "lane"))
    with reporting(server, agent, "own") as agent_id:
        message = Client(server).refused("ask_agent", agent_id=agent_id, action="pause")
        assert "agent.remote is off" in message and "flowherd pause" in message
        assert not agent.control.paused


def test_what_cannot_be_asked_is_refused_with_the_reason(server: ServerProcess, open_server: ServerProcess) -> None:
    client = Client(server)
    old = client.agent("old")
    old.do("offer_runs", holder="old", labels=["old"], room=1, report={"instance": "old"})
    assert "is away, or of an older release" in client.refused("ask_agent", agent_id=old.agent_id, action="pause")
    assert "action must be one of" in client.refused("ask_agent", agent_id=old.agent_id, action="stop")
    assert "deadline_s" in client.refused("ask_agent", agent_id=old.agent_id, action="pause", deadline_s=5)
    agent = Client(open_server).agent("x")
    agent.do("report_agent", live_report={"instance": "x", "remote": True, "outcomes": {}})
    for action in ("drain", "restart"):
        assert "set server.token" in agent.refused("ask_agent", agent_id=agent.agent_id, action=action)
    assert agent.do("ask_agent", agent_id=agent.agent_id, action="pause")["order_id"]
    news = agent.do("report_agent", live_report={"instance": "x", "remote": True, "outcomes": {}})["news"]
    assert [order["action"] for order in news["orders"]] == ["pause"]

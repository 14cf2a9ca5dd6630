"""The page of agents: how each stands, and what it is asked there."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import requests

from flowherd.backends.graphql.lane_backend import LaneBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from tests.processes.server.test_pages import fields_of
from tests.support.agents import RecordingAgent, going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

TOKEN = "of-the-page"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with none_left(), running_server(tmp_path_factory.mktemp("agents") / "data", TOKEN) as server:
        yield server


def page(server: ServerProcess, path: str, status: int = 200) -> str:
    answer = server.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def panel(server: ServerProcess, name: str) -> str:
    """The part of the page about one agent; empty without one."""
    found = [part for part in page(server, "/agents").split("<section") if f">{name}</h2>" in part]
    return found[0] if found else ""


def send(server: ServerProcess, action: str, agent_id: str, **entered: str) -> requests.Response:
    """Answer a question about an agent with yes."""
    address = f"/agents/{action}?agent={agent_id}"
    form = {**fields_of(page(server, address)), **entered}
    return server.post(address, data=form)


def away(server: ServerProcess, name: str, *labels: str) -> Client:
    """Return an agent that was heard of long ago."""
    client = Client(server, Client(server).do("register_agent", type="Test", name=name, labels=labels)["id"])
    with closing(sqlite3.connect(server.data_dir / "flowherd.sqlite", timeout=30)) as database, database:
        database.execute("UPDATE agent SET last_queried = last_queried - 3600000000 WHERE id = ?", (client.agent_id,))
    return client


def agent_id_of(server: ServerProcess, name: str) -> Any:
    return Client(server).ask(f'{{ agent(where: {{ name: {{ _eq: "{name}" }} }}) {{ id }} }}')["agent"][0]["id"]


def test_an_agent_is_paused_resumed_and_drained_from_its_panel(server: ServerProcess) -> None:
    backend = LaneBackend(GraphQLTransport(server.url, token=TOKEN), 15.0)
    agent = RecordingAgent(name="asked", labels=["etl"], no_cloud_logs=True, backend=backend)
    with going(agent):
        wait_until(lambda: "Drain…" in panel(server, "asked"), what="its report")
        agent_id = agent_id_of(server, "asked")
        text = panel(server, "asked")
        for told in ("Connected", "waits for work; up ", ">etl</a>", "load ", "pid "):
            assert told in text, told
        assert "asked is paused." in send(server, "pause", agent_id).text
        assert agent.control.paused
        wait_until(lambda: "Resume…" in panel(server, "asked"), what="its hold")
        assert "asked is resumed." in send(server, "resume", agent_id).text
        assert not agent.control.paused
        wrong = send(server, "drain", agent_id, deadline="soon")
        assert (wrong.status_code, "is not a duration" in wrong.text, 'value="soon"' in wrong.text) == (400, True, True)
        assert "did not restart" in send(server, "restart", agent_id).text, "it was started by a program"
        assert agent.control.shutdown_request is None
        assert "for 1 m 30 s at most" in send(server, "drain", agent_id, deadline="1m30s").text
        request = wait_until(lambda: agent.control.shutdown_request, what="its stop")
        assert (request.on_stop, request.deadline_s) == ("drain", 90)


def test_the_overview_tells_of_an_agents_full_disk_and_of_output_that_it_cannot_send(server: ServerProcess) -> None:
    client = Client(server, Client(server).do("register_agent", type="Test", name="full", labels=[])["id"])
    disk = {"name": "state", "path": "/srv/state", "total_bytes": 2**34, "free_bytes": 2**20}
    figures = {"host": "elsewhere", "host_figures": {"at": 1.0, "disks": [disk]}, "unsent_bytes": 9 * 2**20}
    report = {"instance": "i", "unsent_most_bytes": 10 * 2**20, **figures}
    client.do("report_agent", live_report=report)
    text = page(server, "/")
    for told in ("1 MiB of 16 GiB are free at /srv/state", "9 MiB of output are not sent yet, of at most 10 MiB"):
        assert told in text, told


def test_an_agent_that_is_away_is_told_with_its_runs_and_forgotten_without_them(server: ServerProcess) -> None:
    client = away(server, "gone", "far")
    run_id = client.create_run(labels=["far"])
    client.do("claim_runs", claims=[{"flow_run_id": run_id, "version": 1, "claim": "c"}])
    text = panel(server, "gone")
    told = re.sub("<[^>]*>", "", text)
    assert "One run was running when it was last heard of" in told
    assert (f"/runs/{run_id}" in text, "Forget" in told, "Pause" in told) == (True, False, False)
    refused = page(server, f"/agents/forget?agent={client.agent_id}", 400)
    assert "it cannot be forgotten" in refused
    client.report(run_id, "Failed", claim="c")
    assert "gone are away" in page(server, "/agents") or "gone is away" in page(server, "/agents")
    assert "Forgot gone." in send(server, "forget", str(client.agent_id)).text
    assert panel(server, "gone") == ""
    assert "does not know this agent" in page(server, f"/agents/forget?agent={client.agent_id}", 404)


def test_the_question_before_a_drain_names_the_runs_that_usually_need_longer(server: ServerProcess) -> None:
    client = away(server, "slow", "slow")
    flow_id = client.flow(name="takes-an-hour")
    for _ in range(5):
        run_id = client.create_run(flow_id)
        client.report(run_id, "Running")
        client.report(run_id, "Success")
    with closing(sqlite3.connect(server.data_dir / "flowherd.sqlite", timeout=30)) as database, database:
        database.execute("UPDATE flow_run SET start_time = end_time - 3600000000 WHERE flow_id = ?", (flow_id,))
    run_id = client.create_run(flow_id, labels=["slow"])
    client.do("claim_runs", claims=[{"flow_run_id": run_id, "version": 1, "claim": "c"}])
    client.report(run_id, "Running", claim="c")
    assert re.search(r"takes-an-hour usually needs (59 m|1 h)", page(server, f"/agents/drain?agent={client.agent_id}"))


def test_all_agents_are_woken_from_the_page(server: ServerProcess) -> None:
    address = "/agents/wake"
    answer = server.post(address, data=fields_of(page(server, address)))
    assert "look for runs now" in answer.text


def test_without_a_token_an_agent_is_neither_drained_nor_restarted_here(client: Client) -> None:
    name = f"agent-{uuid.uuid4()}"
    agent = Client(client.server, client.do("register_agent", type="Test", name=name, labels=[])["id"])
    agent.do("report_agent", live_report={"instance": name, "remote": True, "outcomes": {}})
    text = panel(client.server, name)
    assert ("Pause…" in text, "Drain…" in text, "Without a token" in text) == (True, False, True)
    assert send(client.server, "drain", str(agent.agent_id)).status_code == 400

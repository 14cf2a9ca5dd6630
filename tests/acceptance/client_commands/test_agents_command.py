"""`flowherd agents`: what agents report, which are away, and what it says of agents that report nothing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.support.commands import CommandLine
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.many_runs import LONG_NAME, Filling
from tests.support.server import ServerProcess, running_server
from tests.support.terminal import screen

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

REPORT = {
    "host": "barn-01",
    "version": "1.4.0",
    "python": "3.12.1",
    "pid": 4711,
    "since": 1_700_000_000.5,
    "limit": 8,
    "runs": 2,
    "hold": "paused",
    "hold_reason": "paused: claims nothing until `flowherd resume`",
    "load": 5.08,
    "cpus": 16,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data = tmp_path_factory.mktemp("agents") / "data"
    filling = Filling(data)
    flow = filling.flow("etl")
    for name, heard_s, report in (
        ("edge-12", 1560.0, None),
        (LONG_NAME, 7200.0, REPORT | {"hold": "draining", "hold_reason": "the agent is draining"}),
        ("left", 7200.0, REPORT | {"hold": "stopping"}),
        ("forgotten", 90_000.0, None),
    ):
        agent = filling.agent(name, [name[:20]], heard_s=heard_s, report=report)
        if name == LONG_NAME:
            filling.run(flow, "Running", due_s=60, started_s=60, agent_id=agent)
    filling.write()
    with none_left(), running_server(data) as server:
        client = Client(server)
        ids = [client.do("register_agent", type="Agent", name="barn-01", labels=["barn-01"])["id"] for _ in "12"]
        Client(server, ids[0]).do("offer_runs", holder="x", labels=["barn-01"], room=0, report=REPORT)
        yield server


def test_agents_tells_state_runs_contact_and_why_one_claims_nothing(server: ServerProcess) -> None:
    rows = {row["name"]: row for row in CommandLine(server.home).json("agents")}
    assert {name: row["state"] for name, row in rows.items()} == {
        "edge-12": "away",
        LONG_NAME: "draining",
        "left": "stopped",
        "barn-01": "paused",
    }
    paused = rows["barn-01"]
    assert (paused["host"], paused["version"], paused["python"], paused["pid"]) == ("barn-01", "1.4.0", "3.12.1", 4711)
    assert (paused["runs"], paused["limit"], paused["load"], paused["cpus"]) == (0, 8, 5.08, 16)
    assert paused["reason"] == "paused: claims nothing until `flowherd resume`"
    assert datetime.fromisoformat(paused["since"]).year == 2023
    assert (rows[LONG_NAME]["runs"], rows["edge-12"]["limit"], rows["edge-12"]["reason"]) == (1, None, None)
    assert "forgotten" in {row["name"] for row in CommandLine(server.home).json("agents", "--all")}


@pytest.mark.parametrize("width", [80, 200])
def test_trouble_comes_first_and_the_table_fits(server: ServerProcess, width: int) -> None:
    title, *rows, cut = screen(CommandLine(server.home), "agents", width=width)
    assert title.split()[:4] == ["AGENT", "STATE", "RUNS", "LAST"]
    assert [row.split()[1] for row in rows] == ["away", "draining", "paused", "stopped"]
    assert rows[0].split()[0] == "edge-12" and "26m" in rows[0]
    assert "0 of 8" in rows[2] and "paused: claims" in rows[2]
    assert cut == "… 1 more, not heard of for a day: --all"
    assert all(len(line) <= width for line in (title, *rows))
    assert ("5.1/16" in rows[2]) == (width == 200)

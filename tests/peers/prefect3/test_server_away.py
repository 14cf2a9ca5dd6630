"""An agent of a work pool and its runs, while their server is stopped and started, and changes its credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.prefect3.pool_agent import END_S, PoolAgent
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

_AUTH = "PREFECT_SERVER_API_AUTH_STRING"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    """A server that may be stopped, unlike the one that the tests share."""
    with none_left(), running_prefect(tmp_path / "server", {_AUTH: "pooled:first"}) as server:
        yield server


@pytest.fixture
def pool(server: PrefectServer, tmp_path: Path) -> PoolAgent:
    pool = PoolAgent(server, tmp_path, "away")
    pool.environ["PREFECT_API_AUTH_STRING"] = "pooled:first"
    pool.deploy()
    return pool


def test_runs_outlive_a_stopped_server_and_changed_credentials(
    pool: PoolAgent, server: PrefectServer, tmp_path: Path
) -> None:
    """In one test, because every start of the server costs seconds."""
    files = [tmp_path / "soon", tmp_path / "later"]
    with pool.start(PREFECT_API_AUTH_STRING="pooled:first") as agent:
        soon, later = (pool.run("counting", parameters={"file": str(file)}) for file in files)
        for run_id in (soon, later):
            pool.wait_for_line(run_id, "1")
        server.stop()
        wait_until(lambda: "trying again" in agent.text(), timeout_s=END_S, what=agent.text)
        files[0].touch()
        journal = tmp_path / "flowherd" / "agents" / "pooled" / "runs" / soon / "journal"
        wait_until(lambda: b"last " in journal.read_bytes(), timeout_s=END_S, what=agent.text)
        assert agent.process.poll() is None and "Traceback" not in agent.text()

        server.variables[_AUTH] = "pooled:second"
        server.start()
        assert wait_until(
            lambda: [agent.process.poll()] if agent.process.poll() is not None else [], timeout_s=END_S
        ) == [2], agent.text()
        assert "does not accept the credentials" in agent.text().splitlines()[-1]
    assert server.state(later) == "RUNNING"
    server.stop()
    server.variables[_AUTH] = "pooled:first"
    server.start()
    with pool.start(PREFECT_API_AUTH_STRING="pooled:first"):
        files[1].touch()
        assert pool.end(later) == "COMPLETED", pool.story(later)
        # Its engine could not report, unless it was still trying; then the agent reports that it could not.
        assert pool.end(soon) in {"COMPLETED", "CRASHED"}, pool.story(soon)
        for run_id in (soon, later):
            pool.wait_for_process_end(run_id)
            assert_whole(pool, run_id)


def assert_whole(pool: PoolAgent, run_id: str) -> None:
    """Check for every number once and in order, up to the one that the run itself has printed as the last."""
    said = [row["message"] for row in pool.prefect.log(run_id) if row["name"] == "flowherd.stdout"]
    numbers = [line for line in said if line.isdecimal()]
    (last,) = [line for line in said if line.startswith("last ")]
    assert numbers == [str(number) for number in range(1, int(last.split()[1]) + 1)]

"""An agent of a work pool and its runs, while their server is stopped, comes back, or changes its credentials."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.prefect3.pool_agent import END_S, Herd
from tests.peers.prefect3.prefect_server import PrefectServer, running_prefect
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(400)

_AUTH = "PREFECT_SERVER_API_AUTH_STRING"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PrefectServer]:
    """One that may be stopped: not the one of all tests."""
    with none_left(), running_prefect(tmp_path / "server", **{_AUTH: "herder:first"}) as server:
        yield server


@pytest.fixture
def herd(server: PrefectServer, tmp_path: Path) -> Herd:
    (tmp_path / "flowherd").mkdir()
    server.add_pool("away")
    herd = Herd(server, tmp_path, "away")
    herd.environ["PREFECT_API_AUTH_STRING"] = "herder:first"
    herd.deploy()
    return herd


def test_runs_outlive_a_stopped_server_and_changed_credentials(
    herd: Herd, server: PrefectServer, tmp_path: Path
) -> None:
    """In one story, for every start of the server costs seconds."""
    files = [tmp_path / "soon", tmp_path / "later"]
    with herd.start(PREFECT_API_AUTH_STRING="herder:first") as agent:
        soon, later = (herd.run("counting", parameters={"file": str(file)}) for file in files)
        for run_id in (soon, later):
            herd.wait_for_line(run_id, "1")
        server.stop()
        wait_until(lambda: "trying on" in agent.text(), timeout_s=END_S, what=agent.text)
        files[0].touch()
        journal = tmp_path / "flowherd" / "agents" / "herder" / "runs" / soon / "journal"
        wait_until(lambda: b"last " in journal.read_bytes(), timeout_s=END_S, what=agent.text)
        server.start()
        # Its engine tries for a minute or two to tell; when that is over, the agent says that it could not.
        assert herd.end(soon) in {"COMPLETED", "CRASHED"}, herd.story(soon)
        herd.wait_for_process_end(soon)
        assert_whole(herd, soon)
        assert agent.process.poll() is None and "Traceback" not in agent.text()

        server.stop()
        server.variables[_AUTH] = "herder:second"
        server.start()
        assert wait_until(
            lambda: [agent.process.poll()] if agent.process.poll() is not None else [], timeout_s=END_S
        ) == [2], agent.text()
        assert "does not accept the credentials" in agent.text().splitlines()[-1]
    assert server.state(later) == "RUNNING"
    server.stop()
    server.variables[_AUTH] = "herder:first"
    server.start()
    with herd.start(PREFECT_API_AUTH_STRING="herder:first"):
        files[1].touch()
        assert herd.end(later) == "COMPLETED", herd.story(later)
        herd.wait_for_process_end(later)
    assert_whole(herd, later)


def assert_whole(herd: Herd, run_id: str) -> None:
    """Every number once and in order, up to the one that the run itself says was the last."""
    said = [row["message"] for row in herd.prefect.log(run_id) if row["name"] == "flowherd.stdout"]
    numbers = [line for line in said if line.isdecimal()]
    (last,) = [line for line in said if line.startswith("last ")]
    assert numbers == [str(number) for number in range(1, int(last.split()[1]) + 1)]

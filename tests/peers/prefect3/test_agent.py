"""A whole agent at a work pool: it claims, and a run that it cannot start ends with the reason."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flowherd.backends.prefect3.backend import Prefect3Backend
from flowherd.config import load_settings
from flowherd.host.local_agent import LocalAgent
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.commands import READY, CommandLine, background
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def test_an_agent_is_chosen_by_its_settings_and_ends_what_it_cannot_run(prefect: PrefectServer, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "PREFECT_API_URL": prefect.api, "FLOWHERD__PREFECT3__POOL": "of an agent"}
    agent = LocalAgent(name="pooled", settings=load_settings(environ=environ))
    assert isinstance(agent.backend, Prefect3Backend)
    worker = threading.Thread(target=use, args=(agent, prefect))
    worker.start()
    agent.start()
    worker.join()
    workers = prefect.ask("POST", "/work_pools/of an agent/workers/filter", {})
    assert [worker["name"].partition("@")[0] for worker in workers] == ["pooled"]
    (run,) = prefect.ask("POST", "/flow_runs/filter", {"work_pools": {"name": {"any_": ["of an agent"]}}})
    assert run["state"]["type"] == "CRASHED" and "no block secret/gone" in run["state"]["message"]
    assert any(row["level"] >= 40 and "no block secret/gone" in row["message"] for row in prefect.log(run["id"]))


def use(agent: LocalAgent, prefect: PrefectServer) -> None:
    """Make a deployment once the pool exists, and a run of it, as a user does."""
    try:
        wait_until(
            lambda: prefect.ask("POST", "/work_pools/filter", {"work_pools": {"name": {"any_": ["of an agent"]}}})
        )
        env = {"A": "{{ prefect.blocks.secret.gone }}"}
        run_id = prefect.add_run(prefect.add_deployment("of an agent", job_variables={"env": env}))
        wait_until(lambda: prefect.state(run_id) == "CRASHED", timeout_s=60)
        wait_until(lambda: prefect.log(run_id))
    finally:
        agent.stop()


def test_a_claimed_run_that_was_cancelled_before_it_was_started_is_ended_by_the_next_agent(
    prefect: PrefectServer, tmp_path: Path
) -> None:
    """No one else would: it would be Cancelling for ever."""
    prefect.add_pool("cut short")
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "after-claim").write_text("1\n")
    command = CommandLine(tmp_path / "home", {"HOME": str(tmp_path), "FLOWHERD_FAULTS": str(faults)})
    start = ("start", "--pool", "cut short", "--api", prefect.api)
    with background(command, *start, until=READY) as first:
        run_id = prefect.add_run(prefect.add_deployment("cut short"))
        first.process.wait(60)
    assert prefect.state(run_id) == "PENDING"
    assert prefect.set_state(run_id, "CANCELLING") == "ACCEPT"
    with background(command, *start, until=READY):
        wait_until(lambda: prefect.state(run_id) == "CANCELLED", timeout_s=60)

"""What becomes of a flow run is told by Prefect's engine, and by the agent where the engine cannot any more.

One agent and one server a version; the flows are real, registered by the real client.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.config import load_settings
from flowherd.host.run import Run
from tests.peers.environments import NEW, OLD, Peer, required_peer
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.runner import THREAD_AT_START
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

FINISHED = ("Success", "Failed", "Cancelled")


class Ground:
    """A server with the flow, and a new agent on its own state directory as often as one is asked for."""

    def __init__(self, server: ServerProcess, peer: Peer, place: Path) -> None:
        self.server = server
        self.peer = peer
        self.place = place
        self.client = Client(server)
        self.flow_id = self._register()

    def _register(self) -> str:
        environ = {
            **os.environ,
            "HOME": str(self.place),
            "PREFECT__BACKEND": "server",
            "PREFECT__CLOUD__API": self.server.url,
        }
        self.client.do("create_project", name="acting")
        script = Path(__file__).with_name("acting_flow.py")
        said = subprocess.run(
            [self.peer.python, script, "acting"],
            env=environ,
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert said.returncode == 0, said.stdout + said.stderr
        return next(line.split()[1] for line in said.stdout.splitlines() if line.startswith("id "))

    def agent(self, **settings: Any) -> LocalAgent:
        overrides = {"cloud.api": self.server.url, "runtimes": [f"peer={self.peer.directory}"], **settings}
        return LocalAgent(settings=load_settings({"agent.grace": 2.0, **overrides}))

    def start(self, what: str, place: Path) -> str:
        return self.client.create_run(self.flow_id, parameters={"what": what, "place": str(place)})

    def state(self, run_id: str) -> str:
        return str(self.client.run(run_id)["state"])

    def message(self, run_id: str) -> str:
        return str(self.client.run(run_id, "serialized_state")["serialized_state"]["message"])

    def states(self, run_id: str) -> list[str]:
        fields = "states(order_by: {version: asc}) { state }"
        return [row["state"] for row in self.client.run(run_id, fields)["states"]]

    def lines(self, run_id: str) -> list[dict[str, Any]]:
        fields = "logs(order_by: {timestamp: asc}) { message task_run_id }"
        rows: list[dict[str, Any]] = self.client.run(run_id, fields)["logs"]
        return rows

    def log(self, run_id: str) -> list[str]:
        return [row["message"] for row in self.lines(run_id)]

    def pid(self, run_id: str) -> str:
        return next(line.rpartition(" ")[2] for line in self.log(run_id) if "PID: " in line)

    def task(self, run_id: str, slug: str = "act") -> dict[str, Any]:
        fields = "task_runs { id version state serialized_state task { slug } }"
        rows: list[dict[str, Any]] = self.client.run(run_id, fields)["task_runs"]
        return next(row for row in rows if row["task"]["slug"].startswith(slug))

    def wait_for_end(self, run_id: str) -> str:
        wait_until(
            lambda: self.state(run_id) in FINISHED,
            timeout_s=60,
            what=lambda: f"the end of the run, which is {self.states(run_id)}: {self.log(run_id)}",
        )
        return self.state(run_id)

    def let_go_on(self, run_id: str, state: str) -> None:
        """Make the waiting task run due: its time has come, or a person has let it go on."""
        task = self.task(run_id)
        due = (datetime.now(timezone.utc) - timedelta(seconds=5)).isoformat()
        change = {"type": state, "start_time": due, "run_count": 1, "message": "now", "context": {}}
        self.client.do("set_task_run_states", states=[{"task_run_id": task["id"], "version": None, "state": change}])


@pytest.fixture(scope="module", params=[OLD, NEW])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    peer = required_peer(request.param)
    place = tmp_path_factory.mktemp("ground")
    with none_left(), running_server(place / "data") as server:
        yield Ground(server, peer, place)


@pytest.fixture
def agent(ground: Ground, no_process_left: None) -> Iterator[LocalAgent]:
    with going(ground.agent()) as agent:
        yield agent


def living(agent: LocalAgent, run_id: str) -> Run | None:
    return next((run for run in agent._host._registry.living() if run.id == run_id), None)


def gone(agent: LocalAgent, run_id: str) -> bool:
    return run_id not in agent._host._registry


def test_the_engine_tells_running_and_success_and_the_agent_nothing_beside_it(
    ground: Ground, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = ground.start("end well", tmp_path)
    assert ground.wait_for_end(run_id) == "Success"
    assert ground.states(run_id) == ["Scheduled", "Submitted", "Running", "Success"]
    wait_until(lambda: gone(agent, run_id))
    wait_until(lambda: any(line.startswith("The flow process exited with code 0.") for line in ground.log(run_id)))
    assert not any("Success" in line and "flow process" in line for line in ground.log(run_id))
    assert f"begun in {Path.cwd()}" in ground.log(run_id)
    task_runs = {row["message"]: row["task_run_id"] for row in ground.lines(run_id)}
    assert task_runs[f"begun in {Path.cwd()}"] == ground.task(run_id)["id"]
    assert task_runs["Submitted for execution: PID: " + ground.pid(run_id)] is None
    assert ground.client.run(run_id, "heartbeat")["heartbeat"] is not None


def test_a_killed_engine_is_failed_at_once_with_the_cause(ground: Ground, agent: LocalAgent, tmp_path: Path) -> None:
    run_id = ground.start("be killed", tmp_path)
    assert ground.wait_for_end(run_id) == "Failed"
    assert "SIGKILL" in ground.message(run_id)
    assert ground.states(run_id) == ["Scheduled", "Submitted", "Running", "Failed"]


def test_an_engine_that_ends_without_a_word_is_failed(ground: Ground, agent: LocalAgent, tmp_path: Path) -> None:
    run_id = ground.start("leave without a word", tmp_path)
    assert ground.wait_for_end(run_id) == "Failed"
    assert ground.message(run_id) == (
        "The flow process exited with code 0. Its engine had not reported how the flow ended."
    )


@pytest.mark.parametrize(
    ("what", "waits", "goes_on"), [("wait for a retry", "Retrying", "Retrying"), ("pause", "Paused", "Resume")]
)
def test_a_run_whose_task_waits_is_left_alone_and_started_again_when_that_is_due(
    ground: Ground, agent: LocalAgent, tmp_path: Path, what: str, waits: str, goes_on: str
) -> None:
    run_id = ground.start(what, tmp_path)
    wait_until(lambda: ground.task(run_id)["state"] == waits, timeout_s=40)
    wait_until(lambda: gone(agent, run_id))
    assert ground.state(run_id) == "Running"
    ground.let_go_on(run_id, goes_on)
    agent.poke()
    assert ground.wait_for_end(run_id) == "Success"
    assert (tmp_path / "begun").read_text() == "xx"
    assert ground.states(run_id) == ["Scheduled", "Submitted", "Running", "Success"]


def test_cancelling_ends_as_cancelled(ground: Ground, agent: LocalAgent, tmp_path: Path) -> None:
    run_id = ground.start("go on", tmp_path)
    wait_until((tmp_path / "begun").exists, timeout_s=40)
    ground.client.do("cancel_flow_run", flow_run_id=run_id)
    assert ground.wait_for_end(run_id) == "Cancelled"
    wait_until(lambda: gone(agent, run_id))


def test_a_run_that_somebody_sets_to_cancelled_loses_its_process(
    ground: Ground, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = ground.start("go on", tmp_path)
    wait_until((tmp_path / "begun").exists, timeout_s=40)
    ground.client.report(run_id, "Cancelled")
    wait_until(lambda: gone(agent, run_id), timeout_s=40)
    assert ground.state(run_id) == "Cancelled"


def test_a_run_that_somebody_sets_to_failed_loses_its_process_after_the_time_that_an_engine_has_to_end(
    ground: Ground, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = ground.start("go on", tmp_path)
    wait_until((tmp_path / "begun").exists, timeout_s=40)
    upkeep = agent._host._courier._upkeep
    upkeep._linger_s, upkeep._cancellation_interval_s = 0.5, 0.2
    agent._host._courier.look_for_cancellations()
    ground.client.report(run_id, "Failed")
    wait_until(lambda: gone(agent, run_id), timeout_s=40)
    assert ground.states(run_id)[-1] == "Failed"
    assert ground.message(run_id) == "now Failed"


def test_threads_of_the_interpreter_cost_a_start_of_the_interpreter_and_nothing_else(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with none_left(), going(ground.agent(runtimes=[f"peer={ground.peer.directory}"])) as agent:
        run_id = ground.start("end well", tmp_path)
        assert ground.wait_for_end(run_id) == "Success"
        wait_until(lambda: gone(agent, run_id))
    assert ground.states(run_id) == ["Scheduled", "Submitted", "Running", "Success"]
    assert sum(line.startswith("begun in") for line in ground.log(run_id)) == 1


def test_a_run_that_is_handed_out_again_is_not_started_while_its_process_lives(
    ground: Ground, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = ground.start("go on", tmp_path)
    wait_until((tmp_path / "begun").exists, timeout_s=40)
    first = living(agent, run_id)
    ground.let_go_on(run_id, "Scheduled")
    ground.client.report(run_id, "Scheduled")
    assert run_id in ground.client.queue(*agent.labels)
    agent.poke()
    wait_until(lambda: agent._connection.last_contact_s is not None)
    assert living(agent, run_id) is first and (tmp_path / "begun").read_text() == "x"
    assert first is not None and first.flow_pid is not None
    os.kill(first.flow_pid, signal.SIGKILL)
    assert ground.wait_for_end(run_id) == "Success"
    assert (tmp_path / "begun").read_text() == "xx"


def test_the_process_outlives_the_agent_and_its_end_is_told_by_the_next(ground: Ground, tmp_path: Path) -> None:
    with none_left():
        with going(ground.agent()) as agent:
            run_id = ground.start("go on", tmp_path)
            wait_until((tmp_path / "begun").exists, timeout_s=40)
            first = living(agent, run_id)
            assert first is not None
            pid = wait_until(lambda: first.flow_pid)
        os.kill(pid, signal.SIGKILL)
        with going(ground.agent()):
            assert ground.wait_for_end(run_id) == "Failed"
    assert "SIGKILL" in ground.message(run_id)


def test_an_end_while_the_server_is_away_is_judged_when_it_is_back(ground: Ground, tmp_path: Path) -> None:
    """That no process is left is seen by the ground, of which the new server is a part."""
    with going(ground.agent()) as agent:
        run_id = ground.start("go on", tmp_path)
        wait_until((tmp_path / "begun").exists, timeout_s=40)
        run = living(agent, run_id)
        assert run is not None
        ground.server.stop()
        os.kill(wait_until(lambda: run.flow_pid), signal.SIGKILL)
        wait_until(lambda: run.ended)
        assert not run.delivered
        ground.server.start()
        assert ground.wait_for_end(run_id) == "Failed"
    assert "SIGKILL" in ground.message(run_id)


def test_a_run_that_was_taken_again_and_not_started_is_started_by_the_next_agent(
    ground: Ground, tmp_path: Path
) -> None:
    with none_left():
        with going(ground.agent()) as agent:
            run_id = ground.start("wait for a retry", tmp_path)
            wait_until(lambda: ground.task(run_id)["state"] == "Retrying", timeout_s=40)
            wait_until(lambda: gone(agent, run_id))
        ground.let_go_on(run_id, "Retrying")
        dying = ground.agent()
        dying.agent_connect()
        (flow_run,) = [run for run in dying.query_flow_runs() if run.id == run_id]
        dying.update_state(flow_run)
        dying.cleanup()
        assert ground.task(run_id)["state"] == "Submitted"
        with going(ground.agent()):
            assert ground.wait_for_end(run_id) == "Success"
    assert (tmp_path / "begun").read_text() == "xx"


def test_a_kept_directory_gives_way_to_the_next_start(ground: Ground, tmp_path: Path) -> None:
    with none_left(), going(ground.agent(**{"runs.keep": 3600.0})) as agent:
        run_id = ground.start("pause", tmp_path)
        wait_until(lambda: ground.task(run_id)["state"] == "Paused", timeout_s=40)
        wait_until(lambda: gone(agent, run_id))
        directory = agent._host._state.run_directory(run_id)
        first = directory.spec().agent.attempt
        assert directory.outbox().state == "Paused"
        ground.let_go_on(run_id, "Resume")
        agent.poke()
        assert ground.wait_for_end(run_id) == "Success"
        wait_until(lambda: gone(agent, run_id))
        assert directory.outbox().state == "Success"
        assert directory.spec().agent.attempt != first
    assert sum(line.startswith("begun in") for line in ground.log(run_id)) == 2


def test_an_interpreter_without_prefect_is_named_with_what_to_do(ground: Ground, tmp_path: Path) -> None:
    with none_left(), going(ground.agent(runtimes=None)):
        run_id = ground.start("end well", tmp_path)
        assert ground.wait_for_end(run_id) == "Failed"
    assert "no module named prefect in" in ground.message(run_id) and "--runtime" in ground.message(run_id)

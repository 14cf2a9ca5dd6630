"""The end of a flow run is reported by Prefect's engine, and by the agent when the engine no longer can.

One server for each version of Prefect; the flow is real, registered by the real client.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.config import load_settings
from flowherd_runner.contract.files import EXIT_FILE, OUTBOX_FILE, STARTED_FILE
from tests.peers.environments import PREFECT_0, Installation, required_installation
from tests.peers.versions import both_versions, one_version
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.leftovers import none_left
from tests.support.runner import THREAD_AT_START
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

FINISHED = ("Success", "Failed", "Cancelled")
_PROGRAM = Path(__file__).with_name("programs") / "ending_flow.py"


class EndingFlow:
    """The flow at a server, its runs, and agents for them, each on the state directory of the test."""

    def __init__(self, server: ServerProcess, installation: Installation, directory: Path) -> None:
        self.server = server
        self.installation = installation
        self._directory = directory
        self.client = Client(server)
        self._id = self._register()

    def _register(self) -> str:
        environ = {
            **os.environ,
            "HOME": str(self._directory),
            "PREFECT__BACKEND": "server",
            "PREFECT__CLOUD__API": self.server.url,
        }
        self.client.do("create_project", name="ending")
        done = subprocess.run(
            [self.installation.python, _PROGRAM, "ending"],
            env=environ,
            cwd=self._directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("id "))

    def agent(self, **settings: Any) -> LocalAgent:
        overrides = {"cloud.api": self.server.url, "runtimes": [f"peer={self.installation.directory}"], **settings}
        return LocalAgent(settings=load_settings({"agent.grace": 2.0, **overrides}))

    def start(self, what: str, directory: Path) -> str:
        return self.client.create_run(self._id, parameters={"what": what, "directory": str(directory)})

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

    def make_due(self, run_id: str, state: str) -> None:
        """Make the waiting task run due: its time has come, or a person has resumed it."""
        task = self.task(run_id)
        due = (datetime.now(timezone.utc) - timedelta(seconds=5)).isoformat()
        change = {"type": state, "start_time": due, "run_count": 1, "message": "now", "context": {}}
        self.client.do("set_task_run_states", states=[{"task_run_id": task["id"], "version": None, "state": change}])


@pytest.fixture(scope="module")
def flow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndingFlow]:
    installation = required_installation(request.param)
    directory = tmp_path_factory.mktemp("ends")
    with none_left(), running_server(directory / "data") as server:
        yield EndingFlow(server, installation, directory)


@pytest.fixture
def agent(flow: EndingFlow) -> Iterator[LocalAgent]:
    with going(flow.agent()) as agent:
        yield agent


def run_directory(run_id: str) -> Path:
    """Return the directory that the agents of a test have for a run."""
    return Path(os.environ["FLOWHERD_HOME"]) / "agents" / "agent" / "runs" / run_id


def is_gone(run_id: str) -> bool:
    """Whether everything of a run has been delivered, so its directory is removed."""
    return not run_directory(run_id).exists()


def started(run_id: str) -> dict[str, Any]:
    """Read what the runner has written about its start; empty before it has."""
    path = run_directory(run_id) / STARTED_FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def has_begun(directory: Path) -> Callable[[], bool]:
    return (directory / "begun").exists


@both_versions("flow")
def test_the_engine_tells_running_and_success_and_the_agent_nothing_beside_it(
    flow: EndingFlow, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = flow.start("succeed", tmp_path)
    assert flow.wait_for_end(run_id) == "Success"
    assert flow.states(run_id) == ["Scheduled", "Submitted", "Running", "Success"]
    wait_until(lambda: is_gone(run_id))
    wait_until(lambda: any(line.startswith("The flow process exited with code 0.") for line in flow.log(run_id)))
    assert not any("Success" in line and "flow process" in line for line in flow.log(run_id))
    assert f"begun in {Path.cwd()}" in flow.log(run_id)
    task_runs = {row["message"]: row["task_run_id"] for row in flow.lines(run_id)}
    assert task_runs[f"begun in {Path.cwd()}"] == flow.task(run_id)["id"]
    assert task_runs["Submitted for execution: PID: " + flow.pid(run_id)] is None
    assert flow.client.run(run_id, "heartbeat")["heartbeat"] is not None


@both_versions("flow")
def test_a_killed_engine_is_failed_at_once_with_the_cause(flow: EndingFlow, agent: LocalAgent, tmp_path: Path) -> None:
    run_id = flow.start("be killed", tmp_path)
    assert flow.wait_for_end(run_id) == "Failed"
    assert "SIGKILL" in flow.message(run_id)
    assert flow.states(run_id) == ["Scheduled", "Submitted", "Running", "Failed"]


@both_versions("flow")
def test_an_engine_that_ends_without_a_word_is_failed(flow: EndingFlow, agent: LocalAgent, tmp_path: Path) -> None:
    run_id = flow.start("exit at once", tmp_path)
    assert flow.wait_for_end(run_id) == "Failed"
    assert flow.message(run_id) == (
        "The flow process exited with code 0. Its engine had not reported how the flow ended."
    )


@both_versions("flow")
@pytest.mark.parametrize(
    ("what", "waits", "goes_on"), [("wait for a retry", "Retrying", "Retrying"), ("pause", "Paused", "Resume")]
)
def test_a_run_whose_task_waits_is_left_alone_and_started_again_when_that_is_due(
    flow: EndingFlow, agent: LocalAgent, tmp_path: Path, what: str, waits: str, goes_on: str
) -> None:
    run_id = flow.start(what, tmp_path)
    wait_until(lambda: flow.task(run_id)["state"] == waits, timeout_s=40)
    wait_until(lambda: is_gone(run_id))
    assert flow.state(run_id) == "Running"
    flow.make_due(run_id, goes_on)
    agent.poke()
    assert flow.wait_for_end(run_id) == "Success"
    assert (tmp_path / "begun").read_text() == "xx"
    assert flow.states(run_id) == ["Scheduled", "Submitted", "Running", "Success"]


@both_versions("flow")
def test_cancelling_ends_as_cancelled(flow: EndingFlow, agent: LocalAgent, tmp_path: Path) -> None:
    run_id = flow.start("go on", tmp_path)
    wait_until(has_begun(tmp_path), timeout_s=40)
    flow.client.do("cancel_flow_run", flow_run_id=run_id)
    assert flow.wait_for_end(run_id) == "Cancelled"
    wait_until(lambda: is_gone(run_id))


@both_versions("flow")
def test_a_run_that_somebody_sets_to_cancelled_loses_its_process(
    flow: EndingFlow, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = flow.start("go on", tmp_path)
    wait_until(has_begun(tmp_path), timeout_s=40)
    flow.client.report(run_id, "Cancelled")
    wait_until(lambda: is_gone(run_id), timeout_s=40)
    assert flow.state(run_id) == "Cancelled"


@both_versions("flow")
def test_a_run_that_somebody_sets_to_failed_loses_its_process_after_the_time_that_an_engine_has_to_end(
    flow: EndingFlow, tmp_path: Path
) -> None:
    with going(flow.agent(**{"cloud.check_cancellation_interval": 0.2})) as agent:
        run_id = flow.start("go on", tmp_path)
        wait_until(has_begun(tmp_path), timeout_s=40)
        agent._own_host._courier._upkeep._linger_s = 0.5
        flow.client.report(run_id, "Failed")
        wait_until(lambda: is_gone(run_id), timeout_s=40)
    assert flow.states(run_id)[-1] == "Failed"
    assert flow.message(run_id) == "now Failed"


@one_version("flow", PREFECT_0)
def test_threads_of_the_interpreter_cost_a_start_of_the_interpreter_and_nothing_else(
    flow: EndingFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(THREAD_AT_START)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with going(flow.agent(runtimes=[f"peer={flow.installation.directory}"])):
        run_id = flow.start("succeed", tmp_path)
        assert flow.wait_for_end(run_id) == "Success"
        wait_until(lambda: is_gone(run_id))
    assert flow.states(run_id) == ["Scheduled", "Submitted", "Running", "Success"]
    assert sum(line.startswith("begun in") for line in flow.log(run_id)) == 1


@one_version("flow")
def test_a_run_that_is_handed_out_again_is_not_started_while_its_process_lives(
    flow: EndingFlow, agent: LocalAgent, tmp_path: Path
) -> None:
    run_id = flow.start("go on", tmp_path)
    wait_until(has_begun(tmp_path), timeout_s=40)
    first = wait_until(lambda: started(run_id))
    flow.make_due(run_id, "Scheduled")
    flow.client.report(run_id, "Scheduled")
    assert run_id in flow.client.queue(*agent.labels)
    polls = _polls(flow)
    agent.poke()
    wait_until(lambda: _polls(flow) != polls)
    assert started(run_id) == first and (tmp_path / "begun").read_text() == "x"
    os.kill(first["flow_pid"], signal.SIGKILL)
    assert flow.wait_for_end(run_id) == "Success"
    assert (tmp_path / "begun").read_text() == "xx"


def _polls(flow: EndingFlow) -> Any:
    """When agents have asked for runs."""
    return flow.client.ask("{ agent { id last_queried } }")


@one_version("flow", PREFECT_0)
def test_the_process_outlives_the_agent_and_its_end_is_told_by_the_next(flow: EndingFlow, tmp_path: Path) -> None:
    with going(flow.agent()):
        run_id = flow.start("go on", tmp_path)
        wait_until(has_begun(tmp_path), timeout_s=40)
        pid = wait_until(lambda: started(run_id).get("flow_pid"))
    os.kill(pid, signal.SIGKILL)
    with going(flow.agent()):
        assert flow.wait_for_end(run_id) == "Failed"
    assert "SIGKILL" in flow.message(run_id)


@one_version("flow")
def test_an_end_while_the_server_is_away_is_judged_when_it_is_back(flow: EndingFlow, tmp_path: Path) -> None:
    with going(flow.agent()):
        run_id = flow.start("go on", tmp_path)
        wait_until(has_begun(tmp_path), timeout_s=40)
        pid = wait_until(lambda: started(run_id).get("flow_pid"))
        flow.server.stop()
        os.kill(pid, signal.SIGKILL)
        wait_until((run_directory(run_id) / EXIT_FILE).exists)
        flow.server.start()
        assert flow.wait_for_end(run_id) == "Failed"
    assert "SIGKILL" in flow.message(run_id)


@one_version("flow", PREFECT_0)
def test_a_run_that_was_taken_again_and_not_started_is_started_by_the_next_agent(
    flow: EndingFlow, tmp_path: Path
) -> None:
    with going(flow.agent()):
        run_id = flow.start("wait for a retry", tmp_path)
        wait_until(lambda: flow.task(run_id)["state"] == "Retrying", timeout_s=40)
        wait_until(lambda: is_gone(run_id))
    flow.make_due(run_id, "Retrying")
    dying = flow.agent()
    dying.agent_connect()
    (flow_run,) = [run for run in dying.query_flow_runs() if run.id == run_id]
    dying.update_state(flow_run)
    dying.cleanup()
    assert flow.task(run_id)["state"] == "Submitted"
    with going(flow.agent()):
        assert flow.wait_for_end(run_id) == "Success"
    assert (tmp_path / "begun").read_text() == "xx"


@one_version("flow")
def test_a_kept_directory_gives_way_to_the_next_start(flow: EndingFlow, tmp_path: Path) -> None:
    with going(flow.agent(**{"runs.keep": 3600.0})) as agent:
        run_id = flow.start("pause", tmp_path)
        wait_until(lambda: flow.task(run_id)["state"] == "Paused", timeout_s=40)
        wait_until(lambda: _delivered_state(run_id) == "Paused")
        first = started(run_id)
        flow.make_due(run_id, "Resume")
        agent.poke()
        assert flow.wait_for_end(run_id) == "Success"
        wait_until(lambda: _delivered_state(run_id) == "Success")
        assert started(run_id)["pid"] != first["pid"]
    assert sum(line.startswith("begun in") for line in flow.log(run_id)) == 2


def _delivered_state(run_id: str) -> str | None:
    """The state that the outbox of a run ends with, when nothing of the run has yet to be delivered."""
    path = run_directory(run_id) / OUTBOX_FILE
    outbox = json.loads(path.read_text()) if path.exists() else {}
    return outbox.get("state") if outbox.get("final") and not outbox.get("reports") else None


@one_version("flow")
def test_an_interpreter_without_prefect_is_named_with_what_to_do(flow: EndingFlow, tmp_path: Path) -> None:
    with going(flow.agent(runtimes=None)):
        run_id = flow.start("succeed", tmp_path)
        assert flow.wait_for_end(run_id) == "Failed"
    assert "no module named prefect in" in flow.message(run_id) and "--runtime" in flow.message(run_id)

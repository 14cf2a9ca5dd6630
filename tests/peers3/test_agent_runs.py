"""A whole agent, as the process `flowherd start --pool`, runs deployments that Prefect's own command has made."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.peers.environments import THIRD, required_peer
from tests.peers3.environment import PrefectServer
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

_PROGRAM = Path(__file__).with_name("programs") / "herded.py"
_FLOWS = ("greeting", "endless", "deadly", "patient", "failing", "suspending")
_POOL = "herded"
_SECRET = "{{ prefect.blocks.secret.herded }}"
_TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_END_S = 60.0


class Herd:
    """An agent's command line, and the deployments of the flows of programs/herded.py, by the flow's name."""

    def __init__(self, prefect: PrefectServer, place: Path) -> None:
        self.prefect = prefect
        self._place = place
        kept = {name: value for name, value in prefect.environ().items() if not name.startswith("PREFECT_SERVER")}
        self.environ = {**kept, "PREFECT_API_URL": prefect.api}
        self.command = CommandLine(place / "flowherd", {"HOME": str(place), "PREFECT_HOME": str(place / "prefect")})
        self.deployments: dict[str, str] = {}

    def by_hand(self, *arguments: str) -> str:
        """What Prefect's own command says."""
        done = subprocess.run(
            [required_peer(THIRD).prefect, "--no-prompt", *arguments],
            env=self.environ,
            cwd=self._place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def deploy(self) -> None:
        self.keep_secret("herded", "hush-hush")
        (self._place / "flows.py").write_bytes(_PROGRAM.read_bytes())
        of_pool = (
            f"work_pool:\n      name: {_POOL}\n      job_variables:\n        env:\n          SECRET: '{_SECRET}'\n"
        )
        parts = [f"  - name: it\n    entrypoint: flows.py:{flow}\n    {of_pool}" for flow in _FLOWS]
        (self._place / "prefect.yaml").write_text("name: herded\ndeployments:\n" + "".join(parts))
        self.by_hand("deploy", "--all")
        rows = self.prefect.ask("POST", "/deployments/filter", {"work_pools": {"name": {"any_": [_POOL]}}})
        self.deployments = {row["entrypoint"].partition(":")[2]: row["id"] for row in rows}

    def keep_secret(self, name: str, value: str) -> None:
        self.prefect.ask("POST", "/block_types/install_system_block_types")
        kind = self.prefect.ask("GET", "/block_types/slug/secret")["id"]
        schemas = self.prefect.ask(
            "POST", "/block_schemas/filter", {"block_schemas": {"block_type_id": {"any_": [kind]}}}
        )
        block = {"name": name, "data": {"value": value}, "block_type_id": kind, "block_schema_id": schemas[0]["id"]}
        self.prefect.ask("POST", "/block_documents/", block)

    def start(self) -> Any:
        python = required_peer(THIRD).python
        options = ("--pool", _POOL, "--api", self.prefect.api, "--runtime", f"third={python};core=3.*")
        return background(self.command, "start", "-n", "herder", *options, until=READY)

    def run(self, flow: str, **facts: Any) -> str:
        return self.prefect.add_run(self.deployments[flow], **facts)

    def messages(self, run_id: str) -> list[str]:
        return [row["message"] for row in self.prefect.log(run_id)]

    def parts(self, run_id: str) -> list[str]:
        """What the run's subflows have said, in order, as the server has it."""
        asked = {"flow_runs": {"parent_flow_run_id": {"any_": [run_id]}}, "sort": "START_TIME_ASC"}
        subflows = self.prefect.ask("POST", "/flow_runs/filter", asked)
        return [text for row in subflows for text in self.messages(row["id"]) if text.startswith("part ")]

    def wait_for_line(self, run_id: str, text: str) -> None:
        wait_until(lambda: text in self.messages(run_id), timeout_s=_END_S, what=lambda: self.story(run_id))

    def end(self, run_id: str) -> str:
        wait_until(lambda: self.prefect.state(run_id) in _TERMINAL, timeout_s=_END_S, what=lambda: self.story(run_id))
        return self.prefect.state(run_id)

    def wait_for_process_end(self, run_id: str) -> None:
        """Until the agent has told the log of the process's end."""
        wait_until(
            lambda: any(row["name"] == "flowherd" and "process" in row["message"] for row in self.prefect.log(run_id)),
            timeout_s=_END_S,
            what=lambda: self.story(run_id),
        )

    def states(self, run_id: str) -> list[str]:
        rows = self.prefect.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")
        return [row["type"] for row in sorted(rows, key=lambda row: str(row["timestamp"]))]

    def story(self, run_id: str) -> str:
        return f"{self.prefect.run(run_id)['state']}\n" + "\n".join(self.messages(run_id))


def _numbers_of(messages: list[str], text: str) -> list[str]:
    """What stands behind that text."""
    return [message.removeprefix(text) for message in messages if message.startswith(text)]


@pytest.fixture(scope="module")
def herd(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    place = tmp_path_factory.mktemp("herd")
    (place / "flowherd").mkdir()
    prefect.add_pool(_POOL)
    herd = Herd(prefect, place)
    herd.deploy()
    with none_left():
        yield herd


@pytest.fixture(scope="module")
def agent(herd: Herd) -> Iterator[Background]:
    """One agent for the tests that leave it alive."""
    with herd.start() as going:
        yield going


@pytest.mark.usefixtures("agent")
def test_a_deployment_is_completed_with_all_its_output_at_the_server_each_line_once(herd: Herd) -> None:
    run_id = herd.run("greeting", parameters={"name": "herd"})
    assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
    assert herd.states(run_id) == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
    herd.wait_for_process_end(run_id)
    said = herd.messages(run_id)
    for line in ("hello herd", "raw output", "of a child", "the secret is ***", "halving 6"):
        assert said.count(line) == 1, herd.story(run_id)
    raw = {row["name"] for row in herd.prefect.log(run_id) if row["message"] in ("raw output", "of a child")}
    assert raw == {"flowherd.stdout"}
    assert any(row["task_run_id"] for row in herd.prefect.log(run_id) if row["message"] == "halving 6")
    row = herd.prefect.run(run_id)
    assert row["infrastructure_pid"] and row["labels"]["prefect.worker.name"].startswith("herder@")


@pytest.mark.usefixtures("agent")
def test_a_run_that_prefects_own_command_cancels_ends_as_cancelled(herd: Herd) -> None:
    run_id = herd.run("endless")
    herd.wait_for_line(run_id, "working")
    herd.by_hand("flow-run", "cancel", run_id)
    assert herd.end(run_id) == "CANCELLED", herd.story(run_id)
    wait_until(lambda: herd.states(run_id)[-2:] == ["CANCELLING", "CANCELLED"], what=lambda: herd.story(run_id))


@pytest.mark.usefixtures("agent")
def test_a_killed_flow_process_is_a_crash_with_its_cause(herd: Herd) -> None:
    run_id = herd.run("deadly")
    assert herd.end(run_id) == "CRASHED"
    assert "SIGKILL" in herd.prefect.run(run_id)["state"]["message"], herd.story(run_id)
    assert "about to die" in herd.messages(run_id)
    assert herd.parts(run_id) == ["part one"]


@pytest.mark.usefixtures("agent")
def test_a_failed_flow_is_failed_in_the_engines_words(herd: Herd) -> None:
    run_id = herd.run("failing")
    assert herd.end(run_id) == "FAILED"
    herd.wait_for_process_end(run_id)
    assert "ValueError: on purpose" in herd.prefect.run(run_id)["state"]["message"]
    assert herd.states(run_id)[-1] == "FAILED"


@pytest.mark.usefixtures("agent")
def test_a_suspended_run_ends_its_process_and_goes_on_in_another_once_it_is_resumed(herd: Herd) -> None:
    run_id = herd.run("suspending")
    wait_until(lambda: herd.prefect.state(run_id) == "PAUSED", timeout_s=_END_S, what=lambda: herd.story(run_id))
    herd.wait_for_process_end(run_id)
    assert herd.prefect.state(run_id) == "PAUSED"
    herd.prefect.ask("POST", f"/flow_runs/{run_id}/resume", {})
    assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
    pids = wait_until(lambda: _numbers_of(herd.messages(run_id), "resumed in process"), what=lambda: herd.story(run_id))
    assert pids != _numbers_of(herd.messages(run_id), "in process")


@pytest.mark.usefixtures("agent")
def test_a_run_whose_job_variables_cannot_be_used_is_crashed_with_the_reason(herd: Herd) -> None:
    run_id = herd.run("greeting", job_variables={"env": {"A": "{{ prefect.blocks.secret.gone }}"}})
    assert herd.end(run_id) == "CRASHED"
    assert "no block secret/gone" in herd.prefect.run(run_id)["state"]["message"]


@pytest.mark.usefixtures("agent")
def test_a_command_of_the_job_variables_is_run_in_place_of_the_engine(herd: Herd) -> None:
    command = f"{required_peer(THIRD).python} -m prefect.engine"
    run_id = herd.run("greeting", job_variables={"command": command}, parameters={"name": "command"})
    assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
    herd.wait_for_line(run_id, "raw output")


def test_runs_outlive_a_killed_agent_and_the_next_one_adopts_them(
    herd: Herd, agent: Background, tmp_path: Path
) -> None:
    """The last one here: it takes the agent of the others away."""
    file = tmp_path / "there"
    run_id = herd.run("patient", parameters={"file": str(file)})
    herd.wait_for_line(run_id, "waiting")
    pid = int(herd.prefect.run(run_id)["infrastructure_pid"])
    agent.kill()
    os.kill(pid, 0)
    with herd.start() as second:
        wait_until(lambda: "Found a run of an earlier agent" in second.text(), what=second.text)
        file.touch()
        assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
        herd.wait_for_line(run_id, "it is there")
        assert herd.messages(run_id).count("waiting") == 1
        assert herd.parts(run_id) == ["part before", "part behind"]

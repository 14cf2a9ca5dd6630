"""A whole agent, as the process `flowherd start --pool`, runs deployments that Prefect's own command has made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.pool_agent import END_S, Herd
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.commands import Background
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

_POOL = "herded"


def _numbers_of(messages: list[str], text: str) -> list[str]:
    """What stands behind that text."""
    return [message.removeprefix(text) for message in messages if message.startswith(text)]


@pytest.fixture(scope="module")
def herd(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Herd]:
    place = tmp_path_factory.mktemp("herd")
    (place / "flowherd").mkdir()
    prefect.add_pool(_POOL)
    herd = Herd(prefect, place, _POOL)
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
    wait_until(lambda: herd.prefect.state(run_id) == "PAUSED", timeout_s=END_S, what=lambda: herd.story(run_id))
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
    command = f"{required_installation(PREFECT_3).python} -m prefect.engine"
    run_id = herd.run("greeting", job_variables={"command": command}, parameters={"name": "command"})
    assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
    herd.wait_for_line(run_id, "raw output")


@pytest.mark.usefixtures("agent")
def test_a_command_is_started_where_the_pull_steps_have_put_the_code(herd: Herd, tmp_path: Path) -> None:
    script = tmp_path / "engine.sh"
    script.write_text('echo "here is $(basename $(pwd))"\nexec "$1" -m prefect.engine\n')
    (tmp_path / "flows.py").write_text(
        "from prefect import flow\n@flow(log_prints=True)\ndef main(): print('a flow')\n"
    )
    deployment = herd.prefect.add_deployment(
        "herded",
        "wrapped",
        entrypoint="flows.py:main",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}],
        job_variables={"command": f"sh engine.sh {required_installation(PREFECT_3).python}"},
    )
    run_id = herd.prefect.add_run(deployment)
    assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
    herd.wait_for_line(run_id, f"here is {tmp_path.name}")
    herd.wait_for_line(run_id, "a flow")
    assert sum("set_working_directory' completed" in line for line in herd.messages(run_id)) == 1, herd.story(run_id)


@pytest.mark.usefixtures("agent")
def test_a_command_whose_code_cannot_be_had_is_not_started(herd: Herd, tmp_path: Path) -> None:
    deployment = herd.prefect.add_deployment(
        "herded",
        "nowhere",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path / "nowhere")}}],
        job_variables={"command": f"touch {tmp_path}/started"},
    )
    run_id = herd.prefect.add_run(deployment)
    assert herd.end(run_id) == "CRASHED", herd.story(run_id)
    herd.wait_for_process_end(run_id)
    assert any("No such file or directory" in line for line in herd.messages(run_id)), herd.story(run_id)
    assert not (tmp_path / "started").exists()


def test_runs_outlive_a_killed_agent_and_the_next_one_adopts_them(
    herd: Herd, agent: Background, tmp_path: Path
) -> None:
    """The last one here: it takes the agent of the others away."""
    file = tmp_path / "there"
    run_id = herd.run("patient", parameters={"file": str(file)})
    herd.wait_for_line(run_id, "waiting")
    pid = herd.prefect.pid(run_id)
    agent.kill()
    os.kill(pid, 0)
    with herd.start() as second:
        wait_until(lambda: "Found a run of an earlier agent" in second.text(), what=second.text)
        file.touch()
        assert herd.end(run_id) == "COMPLETED", herd.story(run_id)
        herd.wait_for_line(run_id, "it is there")
        assert herd.messages(run_id).count("waiting") == 1
        assert herd.parts(run_id) == ["part before", "part behind"]

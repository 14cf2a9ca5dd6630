"""A whole agent, as the process `flowherd start --pool`, runs deployments that Prefect's own command has made."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.pool_agent import END_S, PoolAgent
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.support.commands import Background, CommandLine
from tests.support.leftovers import none_left
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)

_POOL = "pooled"


def _numbers_of(messages: list[str], text: str) -> list[str]:
    """Return what follows that text."""
    return [message.removeprefix(text) for message in messages if message.startswith(text)]


@pytest.fixture(scope="module")
def pool(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PoolAgent]:
    pool = PoolAgent(prefect, tmp_path_factory.mktemp("pool"), _POOL)
    pool.deploy()
    with none_left():
        yield pool


@pytest.fixture(scope="module")
def agent(pool: PoolAgent) -> Iterator[Background]:
    """One agent for the tests that leave it alive."""
    address = {"FLOWHERD__CLOUD__AGENT__AGENT_ADDRESS": "http://127.0.0.1:0"}
    with pool.start(FLOWHERD__AGENT__GRACE="1", **address) as going:
        serving = re.compile(r"Serving the agent's API at (http://\S+)")
        (pool.address,) = wait_until(lambda: serving.findall(going.text()), what=going.text)
        yield going


@pytest.mark.usefixtures("agent")
def test_a_deployment_is_completed_with_all_its_output_at_the_server_each_line_once(pool: PoolAgent) -> None:
    run_id = pool.run("greeting", parameters={"name": "pool"})
    assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
    assert pool.states(run_id) == ["SCHEDULED", "PENDING", "RUNNING", "COMPLETED"]
    pool.wait_for_process_end(run_id)
    said = pool.messages(run_id)
    for line in ("hello pool", "raw output", "of a child", "the secret is ***", "halving 6"):
        assert said.count(line) == 1, pool.story(run_id)
    raw = {row["name"] for row in pool.prefect.log(run_id) if row["message"] in ("raw output", "of a child")}
    assert raw == {"flowherd.stdout"}
    assert any(row["task_run_id"] for row in pool.prefect.log(run_id) if row["message"] == "halving 6")
    row = pool.prefect.run(run_id)
    assert row["infrastructure_pid"] and row["labels"]["prefect.worker.name"].startswith("pooled@")


@pytest.mark.usefixtures("agent")
def test_a_run_whose_job_variables_switch_its_log_off_has_none_of_it_at_the_server(pool: PoolAgent) -> None:
    off = {"env": {"PREFECT_LOGGING_TO_API_ENABLED": "false"}}
    run_id = pool.run("greeting", parameters={"name": "silent"}, job_variables=off)
    assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
    here = CommandLine(pool.command.home, {**pool.command.env, "FLOWHERD__PREFECT3__POOL": _POOL})
    wait_until(lambda: "hello silent" in here("logs", run_id).stdout and "raw output" in here("logs", run_id).stdout)
    assert not any("silent" in text or "raw output" in text for text in pool.messages(run_id))


@pytest.mark.usefixtures("agent")
def test_a_run_that_prefects_own_command_cancels_ends_as_cancelled(pool: PoolAgent) -> None:
    run_id = pool.run("endless")
    pool.wait_for_line(run_id, "working")
    pool.prefect_command("flow-run", "cancel", run_id)
    assert pool.end(run_id) == "CANCELLED", pool.story(run_id)
    wait_until(lambda: pool.states(run_id)[-2:] == ["CANCELLING", "CANCELLED"], what=lambda: pool.story(run_id))


@pytest.mark.usefixtures("agent")
def test_a_killed_flow_process_is_a_crash_with_its_cause(pool: PoolAgent) -> None:
    run_id = pool.run("deadly")
    assert pool.end(run_id) == "CRASHED"
    assert "SIGKILL" in pool.prefect.run(run_id)["state"]["message"], pool.story(run_id)
    assert "about to die" in pool.messages(run_id)
    assert pool.parts(run_id) == ["part one"]
    # Called by a second process, which runs once the server has the state.
    pool.wait_for_line(run_id, "hook of deadly after Crashed")
    pool.wait_for_line(run_id, "printed by a hook")
    pool.wait_for_line(run_id, "Hook 'tell' finished running successfully")
    assert sum(line.startswith("hook of deadly") for line in pool.messages(run_id)) == 1
    assert pool.states(run_id)[-2:] == ["RUNNING", "CRASHED"], "the state is reported once"
    text = requests.get(f"{pool.address}/metrics", timeout=10).text
    ended = 'flowherd_runs_ended_total{cause="signal",flow="deadly",result="Failed"}'
    assert re.search(rf"^{re.escape(ended)} [1-9]", text, re.MULTILINE), text
    assert re.search(r"^flowherd_fork_seconds_count [1-9]", text, re.MULTILINE), text


@pytest.mark.usefixtures("agent")
def test_the_cancellation_hooks_of_a_run_that_had_to_be_killed_are_called(pool: PoolAgent) -> None:
    run_id = pool.run("stubborn")
    pool.wait_for_line(run_id, "ignoring")
    pool.prefect_command("flow-run", "cancel", run_id)
    assert pool.end(run_id) == "CANCELLED", pool.story(run_id)
    pool.wait_for_line(run_id, "hook of stubborn after Cancelled")
    ended = "After the run's end: The flow process exited with code 0."
    wait_until(lambda: any(ended in line for line in pool.messages(run_id)), what=lambda: pool.story(run_id))


@pytest.mark.usefixtures("agent")
def test_a_failed_flow_is_failed_in_the_engines_words(pool: PoolAgent) -> None:
    run_id = pool.run("failing")
    assert pool.end(run_id) == "FAILED"
    pool.wait_for_process_end(run_id)
    assert "ValueError: on purpose" in pool.prefect.run(run_id)["state"]["message"]
    assert pool.states(run_id)[-1] == "FAILED"


@pytest.mark.usefixtures("agent")
def test_a_suspended_run_ends_its_process_and_goes_on_in_another_once_it_is_resumed(pool: PoolAgent) -> None:
    run_id = pool.run("suspending")
    wait_until(lambda: pool.prefect.state(run_id) == "PAUSED", timeout_s=END_S, what=lambda: pool.story(run_id))
    pool.wait_for_process_end(run_id)
    assert pool.prefect.state(run_id) == "PAUSED"
    pool.prefect.ask("POST", f"/flow_runs/{run_id}/resume", {})
    assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
    pids = wait_until(lambda: _numbers_of(pool.messages(run_id), "resumed in process"), what=lambda: pool.story(run_id))
    assert pids != _numbers_of(pool.messages(run_id), "in process")


@pytest.mark.usefixtures("agent")
def test_a_run_whose_job_variables_cannot_be_used_is_crashed_with_the_reason(pool: PoolAgent) -> None:
    run_id = pool.run("greeting", job_variables={"env": {"A": "{{ prefect.blocks.secret.gone }}"}})
    assert pool.end(run_id) == "CRASHED"
    assert "no block secret/gone" in pool.prefect.run(run_id)["state"]["message"]


@pytest.mark.usefixtures("agent")
def test_a_command_of_the_job_variables_is_run_in_place_of_the_engine(pool: PoolAgent) -> None:
    command = f"{required_installation(PREFECT_3).python} -m prefect.engine"
    run_id = pool.run("greeting", job_variables={"command": command}, parameters={"name": "command"})
    assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
    pool.wait_for_line(run_id, "raw output")


@pytest.mark.usefixtures("agent")
def test_a_command_is_started_where_the_pull_steps_have_put_the_code(pool: PoolAgent, tmp_path: Path) -> None:
    script = tmp_path / "engine.sh"
    script.write_text('echo "here is $(basename $(pwd))"\nexec "$1" -m prefect.engine\n')
    (tmp_path / "flows.py").write_text(
        "from prefect import flow\n@flow(log_prints=True)\ndef main(): print('a flow')\n"
    )
    deployment = pool.prefect.add_deployment(
        _POOL,
        "wrapped",
        entrypoint="flows.py:main",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path)}}],
        job_variables={"command": f"sh engine.sh {required_installation(PREFECT_3).python}"},
    )
    run_id = pool.prefect.add_run(deployment)
    assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
    pool.wait_for_line(run_id, f"here is {tmp_path.name}")
    pool.wait_for_line(run_id, "a flow")
    assert sum("set_working_directory' completed" in line for line in pool.messages(run_id)) == 1, pool.story(run_id)


@pytest.mark.usefixtures("agent")
def test_a_command_whose_code_cannot_be_had_is_not_started_and_the_runs_end_says_why(
    pool: PoolAgent, tmp_path: Path
) -> None:
    deployment = pool.prefect.add_deployment(
        _POOL,
        "nowhere",
        pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(tmp_path / "nowhere")}}],
        job_variables={"command": f"touch {tmp_path}/started"},
    )
    run_id = pool.prefect.add_run(deployment)
    assert pool.end(run_id) == "CRASHED", pool.story(run_id)
    pool.wait_for_process_end(run_id)
    assert f"No such file or directory: '{tmp_path}/nowhere'" in pool.prefect.run(run_id)["state"]["message"]
    assert not (tmp_path / "started").exists()


@pytest.mark.usefixtures("agent")
def test_the_agents_own_pages_show_a_run_of_the_pool(pool: PoolAgent, tmp_path: Path) -> None:
    file = tmp_path / "there"
    run_id = pool.run("patient", parameters={"file": str(file)})

    def page(path: str = f"/runs/{run_id}") -> str:
        return requests.get(pool.address + path, timeout=30).text

    wait_until(lambda: "waiting" in page(), timeout_s=END_S, what="its line")
    assert f"/runs/{run_id}" in page("/")
    for told in ("Running for", str(file), "Processes", "patient"):
        assert told in page(), told
    assert "waiting" in page(f"/runs/{run_id}/log")
    file.touch()
    assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
    wait_until(lambda: "Running for" not in page(), timeout_s=END_S, what="its end")
    assert f"/runs/{run_id}" in page("/")


def test_runs_outlive_a_killed_agent_and_the_next_one_adopts_them(
    pool: PoolAgent, agent: Background, tmp_path: Path
) -> None:
    """The last test here: it ends the agent of the others."""
    file = tmp_path / "there"
    run_id = pool.run("patient", parameters={"file": str(file)})
    pool.wait_for_line(run_id, "waiting")
    pid = pool.prefect.pid(run_id)
    agent.kill()
    os.kill(pid, 0)
    with pool.start() as second:
        wait_until(lambda: "Found a run of an earlier agent" in second.text(), what=second.text)
        file.touch()
        assert pool.end(run_id) == "COMPLETED", pool.story(run_id)
        pool.wait_for_line(run_id, "it is there")
        assert pool.messages(run_id).count("waiting") == 1
        assert pool.parts(run_id) == ["part before", "part behind"]

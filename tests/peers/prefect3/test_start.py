"""What makes the start of a Prefect 3 run quick, and that the run sees no difference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd_runner.contract.variables import IMPORT_ENVIRONMENT_VARIABLE, PREFECT3_PRELOAD
from tests.peers.environments import PREFECT_3, required_installation
from tests.peers.prefect3.prefect_server import PrefectServer
from tests.peers.prefect3.warm_fork import Prefect3EngineRun, WarmFork, running_warm_fork
from tests.support.runner import ForkServer
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fork(prefect: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmFork]:
    """One whose fork server has imported Prefect without knowing the API."""
    with running_warm_fork(prefect, tmp_path_factory.mktemp("start"), pool="start") as fork:
        yield fork


@pytest.fixture(scope="module")
def ready_made(fork: WarmFork, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmFork]:
    """One whose fork server has imported Prefect with the settings of the runs."""
    directory = tmp_path_factory.mktemp("ready-made")
    home = str(fork.directory / "run-home")
    variables = {"HOME": home, "PREFECT_API_URL": fork.prefect.api}
    fork_server = ForkServer(
        str(required_installation(PREFECT_3).python),
        directory / "runs",
        preload=PREFECT3_PRELOAD,
        env={IMPORT_ENVIRONMENT_VARIABLE: json.dumps(variables), "DO_NOT_TRACK": "1"},
    )
    try:
        yield WarmFork(fork.prefect, fork.directory, fork_server, pool="start", deployments=fork.deployments)
    finally:
        fork_server.close()


def seen(run: Prefect3EngineRun) -> dict[str, Any]:
    """Return what the flow "looking_at_all" has seen."""
    run.end()
    line = next((line for line in run.process.lines("stdout") if line.startswith("SEEN ")), None)
    assert line is not None, run.process.describe()
    found: dict[str, Any] = json.loads(line[5:])
    return found


def test_settings_and_logging_are_the_same_whether_made_at_import_or_for_the_run(
    fork: WarmFork, ready_made: WarmFork
) -> None:
    assert seen(ready_made.start("looking_at_all")) == seen(fork.start("looking_at_all"))


def test_a_variable_of_the_runs_own_is_heeded(ready_made: WarmFork) -> None:
    found = seen(ready_made.start("looking_at_all", env={"PREFECT_LOGGING_LEVEL": "ERROR"}))
    assert found["settings"]["PREFECT_LOGGING_LEVEL"] == "ERROR"
    assert found["loggers"]["prefect"][0] == 40


def test_a_profile_that_was_written_after_the_import_is_heeded(ready_made: WarmFork) -> None:
    profiles = ready_made.directory / "run-home" / ".prefect" / "profiles.toml"
    profiles.parent.mkdir(exist_ok=True)
    profiles.write_text('active = "late"\n[profiles.late]\nPREFECT_FLOWS_DEFAULT_RETRIES = "3"\n')
    try:
        assert seen(ready_made.start("looking_at_all"))["settings"]["PREFECT_FLOWS_DEFAULT_RETRIES"] == "3"
    finally:
        profiles.unlink()
    assert seen(ready_made.start("looking_at_all"))["settings"]["PREFECT_FLOWS_DEFAULT_RETRIES"] == "0"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prefect.toml", "[flows]\ndefault_retries = 4\n"),
        ("pyproject.toml", '[project]\nname = "x"\n[tool.prefect.flows]\ndefault_retries = 4\n'),
        (".env", "PREFECT_FLOWS_DEFAULT_RETRIES=4\n"),
    ],
)
def test_a_file_with_settings_where_the_pull_steps_lead_is_heeded(
    ready_made: WarmFork, tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / "flows.py").write_bytes(Path(__file__).with_name("programs").joinpath("flows.py").read_bytes())
    (tmp_path / name).write_text(text)
    deployment = ready_made.deployment_at(tmp_path, "looking_at_all")
    found = seen(ready_made.start("looking_at_all", deployment=deployment))
    assert found["settings"]["PREFECT_FLOWS_DEFAULT_RETRIES"] == "4"


def test_the_fork_servers_environment_holds_nothing_that_it_was_told_for_the_import(ready_made: WarmFork) -> None:
    run = ready_made.start("looking", parameters={"names": [IMPORT_ENVIRONMENT_VARIABLE, "DO_NOT_TRACK"]})
    run.end()
    line = next(line for line in run.process.lines("stdout") if line.startswith("SEEN "))
    assert json.loads(line[5:])["environ"] == {IMPORT_ENVIRONMENT_VARIABLE: None, "DO_NOT_TRACK": "1"}


def test_what_the_agent_has_read_of_run_and_deployment_is_not_asked_for_again(ready_made: WarmFork) -> None:
    """Here it differs from what the server has, which shows that it is used and nothing is requested."""
    parameters = {"word": "of the agent"}
    run = ready_made.start(
        "speaking",
        parameters={"word": "of the server"},
        known=lambda row: {"flow_run": {**row, "state": None, "parameters": parameters}},
    )
    assert run.end()["exit_code"] == 0
    assert "prints of the agent" in run.messages()
    assert run.states == ["Scheduled", "Pending", "Running", "Completed"]


def test_what_this_prefect_cannot_read_is_asked_for(ready_made: WarmFork) -> None:
    run = ready_made.start(
        "speaking",
        parameters={"word": "of the server"},
        known=lambda row: {"flow_run": {"id": 5}, "deployment": {"name": []}},
    )
    assert run.end()["exit_code"] == 0
    assert "prints of the server" in run.messages()


def events(fork: WarmFork, run: Prefect3EngineRun, name: str) -> list[dict[str, Any]]:
    wanted = {"event": {"name": [name]}, "resource": {"id": [f"prefect.flow-run.{run.id}"]}}
    found: list[dict[str, Any]] = fork.prefect.ask("POST", "/events/filter", {"filter": wanted})["events"]
    return found


def test_each_pull_step_is_told_to_the_server_once(ready_made: WarmFork) -> None:
    run = ready_made.start("speaking")
    assert run.end()["exit_code"] == 0
    name = "prefect.flow-run.pull-step.executed"
    (event,) = wait_until(lambda: events(ready_made, run, name), what="the event of the pull step")
    assert event["payload"]["qualified_name"] == "prefect.deployments.steps.set_working_directory"
    assert event["related"][0]["prefect.resource.role"] == "deployment"


def test_a_failed_pull_step_is_told_to_the_server(ready_made: WarmFork, tmp_path: Path) -> None:
    deployment = ready_made.deployment_at(tmp_path / "nowhere", "looking_at_all")
    run = ready_made.start("looking_at_all", deployment=deployment)
    assert run.end()["exit_code"] == 1
    wait_until(lambda: events(ready_made, run, "prefect.flow-run.pull-step.failed"), what="the event of the pull step")


def test_a_flow_that_lasts_has_heartbeats_and_is_suspended_from_outside(ready_made: WarmFork) -> None:
    run = ready_made.start("stepping")
    wait_until(lambda: "says step 3" in run.messages(), timeout_s=60, what=run.process.describe)
    wait_until(lambda: events(ready_made, run, "prefect.flow-run.heartbeat"), timeout_s=30, what="a heartbeat")
    details = {"pause_reschedule": True, "pause_timeout": "2100-01-01T00:00:00Z"}
    assert ready_made.prefect.set_state(run.id, "PAUSED", name="Suspended", state_details=details) == "ACCEPT"
    record = run.end()
    assert (record["reason"], record["exit_code"]) == ("exited", 0)
    assert run.states[-1] == "Suspended"

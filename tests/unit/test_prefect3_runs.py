"""Planning runs of a Prefect 3 work pool: kind, environment, secrets, interpreter."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan, runtime_of
from flowherd.engines.runtimes import RuntimeRule
from flowherd.errors import UnsupportedStorage
from flowherd.host.run import Run
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import KIND_COMMAND, KIND_PREFECT3, KIND_PREFECT3_COMMAND, PREFECT3_PRELOAD
from flowherd_runner.run_secrets import prepare, secrets_of


def run_of(
    tags: tuple[str, ...] = (), refused: str | None = None, pull_steps: list[Any] | None = None, **config: Any
) -> FlowRun:
    storage = {"type": "Prefect3", "entrypoint": "flows.py:main", "pull_steps": pull_steps}
    storage |= {"refused": refused} if refused else {}
    run_config = {"type": "LocalRun", "env": {}, "command": None, "working_dir": None, **config}
    return FlowRun(
        id=str(uuid.uuid4()),
        name="test",
        version=0,
        state=RunState.SCHEDULED,
        serialized_state={},
        labels=tags,
        parameters={"x": 1},
        run_config=run_config,
        flow=Flow(id=str(uuid.uuid4()), name="etl", storage=storage, core_version="3.8.5"),
    )


def spec_of(run: FlowRun, **defaults: Any) -> RunSpec:
    return plan(run, AgentDefaults(**defaults), "token")


def test_the_engine_gets_parameters_and_code_from_the_server() -> None:
    run = run_of(env={"A": "run"}, working_dir="/work")
    spec = spec_of(run, env_vars={"A": "agent", "B": "agent"}, preload=["json"], import_paths=["/p"])
    assert (spec.kind, spec.target) == (KIND_PREFECT3, {"flow_run_id": run.id, "entrypoint": "flows.py:main"})
    assert (spec.parameters, spec.working_dir, spec.import_paths) == ({}, "/work", ("/p",))
    assert spec.env == {"A": "run", "B": "agent"}
    assert spec.agent.preload == (*PREFECT3_PRELOAD, "json")


def test_a_command_is_run_in_place_of_the_engine_with_the_same_environment() -> None:
    spec = spec_of(run_of(env={"A": "1"}, command="poetry run 'my engine' {x}"))
    assert (spec.kind, spec.target) == (KIND_COMMAND, {"argv": ["poetry", "run", "my engine", "{x}"]})
    assert (spec.env, spec.parameters, spec.agent.has_engine) == ({"A": "1"}, {}, True)


def test_a_commands_code_is_fetched_first_if_a_runtime_has_prefect_3() -> None:
    rule = RuntimeRule(name="third", interpreter="/opt/prefect-3/bin/python")
    without = RuntimeRule(name="third", interpreter="/opt/bare/bin/python", has_engine=False)
    run = run_of(command="./engine.sh", pull_steps=[{"step": {}}])
    spec = spec_of(run, runtimes=[rule])
    assert (spec.kind, spec.target["argv"]) == (KIND_PREFECT3_COMMAND, ["./engine.sh"])
    assert (spec.agent.interpreter, spec.agent.preload) == ("/opt/prefect-3/bin/python", PREFECT3_PRELOAD)
    for given in ({}, {"runtimes": [without]}):
        assert spec_of(run, **given).kind == KIND_COMMAND
    assert spec_of(run_of(command="./engine.sh"), runtimes=[rule]).kind == KIND_COMMAND


@pytest.mark.parametrize("command", ["a 'b", " ", "a\0b"])
def test_an_unusable_command_is_refused(command: str) -> None:
    with pytest.raises(UnsupportedStorage, match="command"):
        spec_of(run_of(command=command))


def test_a_run_whose_job_variables_cannot_be_used_is_refused_with_the_reason() -> None:
    with pytest.raises(UnsupportedStorage, match="no such block"):
        spec_of(run_of(refused="no such block"))


@pytest.mark.parametrize("shown", [True, False])
def test_whether_output_is_shown_beside_the_agent_is_a_job_variable(shown: bool, tmp_path: Path) -> None:
    flow_run = run_of(stream_output=shown)
    assert Run(RunDirectory(tmp_path, flow_run.id), spec_of(flow_run), lambda: None).shows_output is shown


def test_credentials_and_what_came_from_blocks_are_masked() -> None:
    env = {"PREFECT_API_KEY": "pnu_key", "PREFECT_API_AUTH_STRING": "name:pass-word", "PREFECT_API_URL": "http://h/api"}
    masked = secrets_of(prepare(spec_of(run_of(env={**env, "FROM_BLOCK": "from a block"}, secret_env=["FROM_BLOCK"]))))
    assert {"FROM_BLOCK", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"} <= set(masked.names)
    assert {"pnu_key", "name:pass-word", "pass-word", "from a block"} <= set(masked.values)
    assert "http://h/api" not in masked.values


def test_runtimes_are_chosen_by_tags_flows_and_the_servers_version() -> None:
    gpu = RuntimeRule(name="gpu", interpreter="/gpu", labels=frozenset({"gpu"}), preload=("torch",))
    third = RuntimeRule(name="third", interpreter="/third", core_version="3.*")
    chosen = [runtime_of(spec_of(run_of(tags), runtimes=(gpu, third))) for tags in (("gpu",), ())]
    assert [runtime.interpreter for runtime in chosen] == ["/gpu", "/third"]
    assert [runtime.preload for runtime in chosen] == [(*PREFECT3_PRELOAD, "torch"), PREFECT3_PRELOAD]


def test_the_start_of_the_process_is_reported_although_the_engine_reports_running(tmp_path: Path) -> None:
    flow_run = run_of()
    directory = RunDirectory(tmp_path, flow_run.id)
    spec = spec_of(flow_run)
    run = Run(directory, spec, lambda: None)
    directory.create(spec)
    run.note_running(77)
    assert [(report.state, report.pid, report.of_process) for report in run.pending.reports] == [
        (RunState.RUNNING, 77, False)
    ]


@pytest.mark.parametrize(
    ("of_files", "of_agent", "of_run", "of_host", "sent"),
    [
        (None, None, None, True, True),
        (None, None, None, False, False),
        (None, None, "false", True, False),
        (None, None, "True", False, True),
        (None, "0", None, True, False),
        ("false", "true", None, False, True),
        (None, "false", "true", True, True),
        (None, None, "perhaps", False, False),
    ],
)
def test_the_log_stays_off_the_server_wherever_prefect_3s_switch_is_set(
    of_files: str | None, of_agent: str | None, of_run: str | None, of_host: bool, sent: bool
) -> None:
    def switch(value: str | None) -> dict[str, str]:
        return {} if value is None else {"PREFECT_LOGGING_TO_API_ENABLED": value}

    spec = spec_of(
        run_of(env=switch(of_run)),
        engine_variables=switch(of_files),
        env_vars=switch(of_agent),
        logging_to_api=of_host,
    )
    assert spec.agent.send_logs is sent
    assert spec.env == {**switch(of_files), **switch(of_agent), **switch(of_run)}

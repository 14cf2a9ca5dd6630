"""Planning runs of Prefect 0.x and 1.x flows: kind, interpreter, and the environment of the engine."""

from __future__ import annotations

import json
import os
import sys
import uuid
from dataclasses import replace
from typing import Any

import pytest

from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan, runtime_of
from flowherd.engines.runtimes import RuntimeRule
from flowherd.engines.token_of_run import with_own_token
from flowherd.errors import UnsupportedStorage
from flowherd.run_token import read_run_token
from flowherd.states import RunState
from flowherd.values import EngineAccess, Flow, FlowRun
from flowherd_runner.contract.isolation import Isolation
from flowherd_runner.contract.spec import salvage_spec, spec_to_json
from flowherd_runner.contract.variables import KIND_PREFECT, PREFECT_PRELOAD
from flowherd_runner.run_secrets import prepare, secrets_of

LOCAL = {"type": "Local", "flows": {"etl-1": "/flows/etl.prefect"}}
ACCESS = EngineAccess(api="http://host:4200", endpoint="http://host:4200/graphql", token="se-cret", tenant_id="t-1")


def run_of(version: str | None, storage: dict[str, Any] = LOCAL, labels: tuple[str, ...] = (), **flow: Any) -> FlowRun:
    return FlowRun(
        id=str(uuid.uuid4()),
        name="test",
        version=1,
        state=RunState.SCHEDULED,
        serialized_state={},
        labels=labels,
        parameters={"x": 1},
        flow=Flow(id=str(uuid.uuid4()), name="etl-1", storage=storage, core_version=version, **flow),
    )


def defaults(*runtimes: RuntimeRule, access: EngineAccess = ACCESS, **given: Any) -> AgentDefaults:
    own: dict[str, Any] = {"labels": ["a", "b"], "started_in": "/agent", "preload": ["json"]}
    return AgentDefaults(runtimes=runtimes, access=access, **own, **given)


def env_of(flow_run: FlowRun, agent: AgentDefaults) -> dict[str, str]:
    return dict(plan(flow_run, agent, "token").env)


class TestSpec:
    @pytest.mark.parametrize("storage", ["Local", "Module", "GitHub", "S3", "SomethingNewer"])
    def test_every_storage_except_flowherds_and_docker_is_left_to_prefect(self, storage: str) -> None:
        run = run_of("1.4.1", {"type": storage})
        spec = plan(run, defaults(), "token")
        assert spec.kind == KIND_PREFECT
        assert spec.target == {"flow_run_id": run.id, "core_version": "1.4.1", "storage": storage}

    @pytest.mark.parametrize("storage", [{"type": "Docker"}, {}, {"type": None}, {"type": ["x"]}])
    def test_docker_and_no_storage_at_all_are_refused(self, storage: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="Unsupported Storage"):
            plan(run_of("1.4.1", storage), defaults(), "token")

    @pytest.mark.parametrize("config", ["DockerRun", "KubernetesRun", "ECSRun", "VertexRun"])
    def test_run_configs_of_other_platforms_are_refused(self, config: str) -> None:
        with pytest.raises(ValueError, match=config):
            plan(run_of("1.4.1", run_config={"type": config}), defaults(), "token")

    def test_without_an_api_for_its_engine_a_prefect_flow_is_refused(self) -> None:
        with pytest.raises(UnsupportedStorage, match="no API"):
            plan(run_of("1.4.1"), AgentDefaults(), "token")

    def test_a_spec_can_be_read_back_from_its_json(self) -> None:
        made = plan(run_of("0.13.1"), defaults(), "token")
        assert salvage_spec(json.loads(json.dumps(spec_to_json(made)))) == made

    def test_it_runs_in_the_directory_of_its_local_run_or_in_the_agents(self) -> None:
        assert plan(run_of("1.4.1"), defaults(), "token").working_dir == "/agent"
        config = {"type": "LocalRun", "working_dir": "/work"}
        assert plan(run_of("1.4.1", run_config=config), defaults(), "token").working_dir == "/work"


class TestEnvironment:
    @pytest.mark.parametrize("version", ["0.13.1", "0.15.2", "1.4.1", "1.4.1+12.gabcdef", None, "nonsense"])
    def test_every_version_finds_run_and_backend_and_leaves_logs_and_heartbeats_to_flowherd(
        self, version: str | None
    ) -> None:
        run = run_of(version)
        env = env_of(run, defaults())
        assert env["PREFECT__CONTEXT__FLOW_RUN_ID"] == run.id
        assert env["PREFECT__CONTEXT__FLOW_ID"] == run.flow.id
        assert env["PREFECT__BACKEND"] == "server"
        assert (env["PREFECT__CLOUD__API"], env["PREFECT__CLOUD__GRAPHQL"]) == (ACCESS.api, ACCESS.endpoint)
        assert env["PREFECT__CLOUD__AUTH_TOKEN"] == env["PREFECT__CLOUD__API_KEY"] == "se-cret"
        assert env["PREFECT__CLOUD__AGENT__LABELS"] == "['a', 'b']"
        assert env["PREFECT__LOGGING__LOG_TO_CLOUD"] == env["PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"] == "false"
        assert env["PREFECT__CLOUD__HEARTBEAT_MODE"] == "off"
        assert env["PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS"] == "prefect.engine.cloud.CloudFlowRunner"

    def test_only_versions_before_1_get_a_task_runner(self) -> None:
        """From 1.0 on, a flow that is run inside a task would use it too."""
        name = "PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS"
        assert [name in env_of(run_of(version), defaults()) for version in ("0.13.1", "0.15.2", "1.4.1", None)] == [
            True,
            True,
            False,
            False,
        ]

    def test_before_0_14_everything_is_logged_and_later_the_host_decides(self) -> None:
        name = "PREFECT__LOGGING__LEVEL"
        assert env_of(run_of("0.13.1"), defaults())[name] == "DEBUG"
        assert name not in env_of(run_of("1.4.1"), defaults())

    def test_a_flow_without_version_is_old_if_it_has_an_environment_and_no_run_config(self) -> None:
        old = run_of(None, environment={"type": "LocalEnvironment", "labels": []})
        assert env_of(old, defaults())["PREFECT__LOGGING__LEVEL"] == "DEBUG"

    def test_without_token_there_is_no_variable_for_one(self) -> None:
        env = env_of(run_of("1.4.1"), defaults(access=EngineAccess(api="http://h", endpoint="http://h/graphql")))
        assert not [name for name in env if "TOKEN" in name or "API_KEY" in name or "TENANT" in name]

    def test_before_0_14_the_agents_variables_win_over_all_except_flowherds_own(self) -> None:
        given = {"PREFECT__CLOUD__USE_LOCAL_SECRETS": "true", "PREFECT__LOGGING__LEVEL": "INFO"}
        ours = {"PREFECT__CONTEXT__FLOW_RUN_ID": "x", "PREFECT__LOGGING__LOG_TO_CLOUD": "true"}
        run = run_of("0.13.1")
        env = env_of(run, defaults(env_vars={**given, **ours}))
        assert given.items() <= env.items()
        assert env["PREFECT__CONTEXT__FLOW_RUN_ID"] == run.id
        assert env["PREFECT__LOGGING__LOG_TO_CLOUD"] == "false"

    def test_later_the_run_config_wins_over_the_agent_and_the_protocol_over_both(self) -> None:
        agent = {"A": "agent", "B": "agent", "PREFECT__LOGGING__LEVEL": "ERROR", "PREFECT__BACKEND": "cloud"}
        config = {"type": "UniversalRun", "env": {"B": "run", "PREFECT__CLOUD__USE_LOCAL_SECRETS": "true"}}
        env = env_of(run_of("1.4.1", run_config=config), defaults(env_vars=agent))
        assert (env["A"], env["B"], env["PREFECT__LOGGING__LEVEL"]) == ("agent", "run", "ERROR")
        assert (env["PREFECT__BACKEND"], env["PREFECT__CLOUD__USE_LOCAL_SECRETS"]) == ("server", "false")

    def test_import_paths_have_the_order_of_each_versions_agent(self) -> None:
        config = {"type": "LocalRun", "working_dir": "/work"}
        agent = defaults(python_path="/inherited", import_paths=["/p"])
        old, new = run_of("0.13.1", run_config=config), run_of("1.4.1", run_config=config)
        assert env_of(old, agent)["PYTHONPATH"].split(os.pathsep) == ["/inherited", "/agent", "/p"]
        assert env_of(new, agent)["PYTHONPATH"].split(os.pathsep) == ["/work", "/inherited", "/p"]
        assert plan(new, agent, "token").import_paths == ()

    def test_the_authorities_that_the_agent_trusts_are_the_engines_unless_the_run_names_its_own(self) -> None:
        agent = replace(defaults(), access=replace(ACCESS, authorities="/firm.pem"))
        own = {"type": "LocalRun", "env": {"REQUESTS_CA_BUNDLE": "/own.pem"}}
        for version in ("0.13.1", "1.4.1"):
            assert env_of(run_of(version), agent)["REQUESTS_CA_BUNDLE"] == "/firm.pem"
            assert env_of(run_of(version, run_config=own), agent)["REQUESTS_CA_BUNDLE"] == "/own.pem"
            assert "REQUESTS_CA_BUNDLE" not in env_of(run_of(version), defaults())

    def test_a_python_path_of_the_agent_is_extended_before_0_14_and_unchanged_later(self) -> None:
        agent = defaults(env_vars={"PYTHONPATH": "/given"}, python_path="/inherited")
        assert env_of(run_of("0.13.1"), agent)["PYTHONPATH"].split(os.pathsep) == ["/given", "/agent"]
        assert env_of(run_of("1.4.1"), agent)["PYTHONPATH"] == "/given"

    def test_tokens_and_secrets_are_masked_and_the_word_false_is_not(self) -> None:
        config = {"type": "LocalRun", "env": {"PREFECT__CONTEXT__SECRETS__DB": "of the database"}}
        masked = secrets_of(prepare(plan(run_of("1.4.1", run_config=config), defaults(), "token")))
        names = {"PREFECT__CLOUD__API_KEY", "PREFECT__CLOUD__AUTH_TOKEN", "PREFECT__CONTEXT__SECRETS__DB"}
        assert names <= set(masked.names)
        assert {"se-cret", "of the database"} <= set(masked.values)
        assert "false" not in masked.values

    def test_parameters_that_the_engine_reads_itself_are_masked_too(self) -> None:
        run = run_of("1.4.1")
        run.parameters = {"password": "correct-horse"}
        spec = plan(run, defaults(), "token")
        assert spec.parameters == {}
        assert "correct-horse" in secrets_of(prepare(spec)).values

    def test_the_token_is_in_no_repr(self) -> None:
        assert "se-cret" not in repr(ACCESS) and "se-cret" not in repr(defaults())


class TestLogs:
    @pytest.mark.parametrize("name", ["PREFECT__LOGGING__LOG_TO_CLOUD", "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"])
    @pytest.mark.parametrize(("value", "sent"), [("false", False), ("False", False), ("true", True), ("", True)])
    def test_a_run_may_keep_its_log_from_the_backend(self, name: str, value: str, sent: bool) -> None:
        config = {"type": "UniversalRun", "env": {name: value}}
        of_run = plan(run_of("1.4.1", run_config=config), defaults(), "token")
        of_agent = plan(run_of("0.13.1"), defaults(env_vars={name: value}), "token")
        assert of_run.agent.send_logs is of_agent.agent.send_logs is sent
        assert of_run.env[name] == of_agent.env[name] == "false"

    def test_the_log_is_sent_otherwise(self) -> None:
        assert plan(run_of("1.4.1"), defaults(), "token").agent.send_logs is True


class TestRuntimes:
    old = RuntimeRule(name="old", interpreter="/old/bin/python", core_version="0.*")
    gpu = RuntimeRule(name="gpu", interpreter="/gpu/bin/python", labels=frozenset({"gpu", "cuda"}), preload=("torch",))
    etl = RuntimeRule(name="etl", interpreter="/etl/bin/python", flows=("etl-*", "load"))

    def test_the_first_whose_conditions_are_all_met_serves(self) -> None:
        agent = defaults(self.old, self.gpu, self.etl)
        chosen = [
            runtime_of(plan(run_of(version, labels=labels), agent, "token")).interpreter
            for version, labels in [("0.13.1", ("gpu",)), ("1.4.1", ("cuda", "x")), ("1.4.1", ()), (None, ())]
        ]
        assert chosen == ["/old/bin/python", "/gpu/bin/python", "/etl/bin/python", "/etl/bin/python"]

    def test_all_conditions_of_one_must_be_met(self) -> None:
        rule = RuntimeRule(name="x", interpreter="/x", labels=frozenset({"a"}), flows=("other",))
        assert not rule.serves(run_of("1.4.1", labels=("a",)))

    def test_without_a_match_the_agents_own_interpreter_serves(self) -> None:
        assert runtime_of(plan(run_of("1.4.1"), defaults(self.old), "token")).interpreter == sys.executable

    def test_the_interpreter_of_the_run_config_wins(self) -> None:
        run = run_of("0.13.1", run_config={"type": "LocalRun", "interpreter": "/mine/bin/python"})
        assert runtime_of(plan(run, defaults(self.old), "token")).interpreter == "/mine/bin/python"

    def test_prefects_own_modules_are_preloaded_first(self) -> None:
        run = run_of("1.4.1", labels=("gpu",))
        assert runtime_of(plan(run, defaults(self.gpu), "token")).preload == (*PREFECT_PRELOAD, "torch")
        assert runtime_of(plan(run, defaults(), "token")).preload == (*PREFECT_PRELOAD, "json")
        chosen = run_of("1.4.1", run_config={"type": "LocalRun", "preload": [PREFECT_PRELOAD[0], "numpy"]})
        assert runtime_of(plan(chosen, defaults(), "token")).preload == (*PREFECT_PRELOAD, "numpy")

    def test_python_flows_are_served_too_and_commands_need_no_interpreter(self) -> None:
        python, command = {"type": "Python", "ref": "m:f"}, {"type": "Command", "argv": ["true"]}
        agent = defaults(self.etl)
        assert runtime_of(plan(run_of(None, python), agent, "token")).interpreter == "/etl/bin/python"
        assert runtime_of(plan(run_of(None, python), agent, "token")).preload == ()
        assert runtime_of(plan(run_of(None, command), agent, "token")).interpreter == sys.executable


class TestTokenOfARunThatIsKeptApart:
    """The level is set by hand here, because only the token is looked at."""

    TAKEN = replace(ACCESS, takes_run_tokens=True)

    def spec(
        self, version: str, level: str, agent: AgentDefaults, storage: dict[str, Any] = LOCAL
    ) -> tuple[Any, FlowRun]:
        run = run_of(version, storage)
        spec = plan(run, agent, "token")
        return with_own_token(spec._replace(isolation=Isolation(level=level)), run, agent), run

    @pytest.mark.parametrize("version", ["0.13.1", "1.4.1"])
    def test_the_engine_has_one_for_its_claim_in_place_of_the_agents(self, version: str) -> None:
        spec, run = self.spec(version, "private", defaults(access=self.TAKEN))
        tokens = {spec.env[f"PREFECT__CLOUD__{name}"] for name in ("AUTH_TOKEN", "API_KEY")}
        assert [read_run_token("se-cret", one) for one in tokens] == [(run.id, run.version)]
        assert "se-cret" not in json.dumps(spec_to_json(spec))

    @pytest.mark.parametrize("level, access", [("none", TAKEN), ("sealed", ACCESS)])
    def test_without_a_level_and_at_prefects_servers_it_is_the_agents(self, level: str, access: EngineAccess) -> None:
        assert self.spec("1.4.1", level, defaults(access=access))[0].env["PREFECT__CLOUD__API_KEY"] == "se-cret"

    @pytest.mark.parametrize(
        "isolation, warns",
        [
            (Isolation(level="private"), True),
            (Isolation(level="private", network="none"), False),
            (Isolation(level="sealed", floor="private"), False),  # every run of that agent is isolated
            (Isolation(), False),
        ],
    )
    def test_a_run_is_warned_of_an_api_by_which_it_could_leave(self, isolation: Isolation, warns: bool) -> None:
        run, agent = run_of(None, {"type": "Command", "argv": ["true"]}), defaults(access=replace(ACCESS, token=""))
        spec = with_own_token(plan(run, agent, "token")._replace(isolation=isolation), run, agent)
        assert [("wants no token" in one) for one in spec.agent.warnings] == [True] * warns

    def test_a_run_without_an_engine_has_none(self) -> None:
        agent = defaults(access=self.TAKEN, env_vars={"TOKEN": "se-cret", "KEPT": "1"})
        spec, _ = self.spec("", "private", agent, {"type": "Command", "argv": ["true"]})
        assert spec.env == {"KEPT": "1"}

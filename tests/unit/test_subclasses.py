"""What a subclass of an agent, written for Prefect, finds and what it is warned of; without a process."""

from __future__ import annotations

import ast
import inspect
import os
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest

import flowherd
from flowherd import Agent, ConfigurationError, LocalAgent, OverrideNeverCalled
from flowherd.agent.overrides import NEVER_CALLED
from flowherd.agent.run_configs import LocalRun
from flowherd.backends.graphql.backend import GraphQLBackend
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.memory import MemoryBackend
from tests.unit.test_prefect_runs import run_of

PACKAGE = Path(flowherd.__file__).parent


def at_a_server(kind: type[LocalAgent] = LocalAgent, token: str = "token", **given: Any) -> LocalAgent:
    """Make an agent of a Prefect server, which it does not contact."""
    return kind(backend=GraphQLBackend(GraphQLTransport("http://127.0.0.1:9", token)), hostname_label=False, **given)


class TestWarnings:
    @pytest.mark.parametrize("name", sorted(NEVER_CALLED))
    def test_an_override_that_is_never_called_is_warned_of_when_the_class_is_defined(self, name: str) -> None:
        with pytest.warns(OverrideNeverCalled, match=f"^Other overrides {name}, which flowherd never calls: ") as found:
            type("Other", (Agent,), {name: lambda self: None})
        assert found[0].filename == __file__

    def test_overrides_that_are_called_bring_no_warning(self) -> None:
        hooks = [name for name in vars(Agent) if not name.startswith("_") and name not in NEVER_CALLED]
        assert {"deploy_flow", "query_flow_runs", "update_state", "mark_failed", "setup", "cleanup"} <= {*hooks}
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            type("Other", (LocalAgent,), dict.fromkeys([*hooks, "populate_env_vars", "_get_run_config", "my_own"]))

    def test_a_method_that_another_base_has_may_be_called_by_it(self) -> None:
        class Mixin:
            def stop(self) -> None:
                """Called by a program's own code."""

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            type("Other", (Mixin, Agent), {"stop": lambda self: None})

    def test_every_public_method_is_called_by_the_agent_itself_or_warned_of(self) -> None:
        """A method is called where `self` or `agent` has it; a new one that nobody calls has to be listed."""
        called = {
            node.attr
            for folder in ("agent", "host")
            for path in (PACKAGE / folder).glob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "agent", "self._agent")
        }
        published = {name for kind in LocalAgent.__mro__[:-1] for name in vars(kind) if not name.startswith("_")}
        by_users = {"start", "client", "generate_supervisor_conf"}
        assert published - called - NEVER_CALLED.keys() - by_users == set()


class TestVariables:
    def test_populate_env_vars_returns_what_prefect_0_13_does(self) -> None:
        run = run_of("0.13.1")
        agent = at_a_server(labels=["a"], env_vars={"MINE": "1", "MISSING": None}, no_cloud_logs=True)
        assert agent.populate_env_vars(run) == {
            "PREFECT__CLOUD__API": "http://127.0.0.1:9",
            "PREFECT__CLOUD__AUTH_TOKEN": "token",
            "PREFECT__CLOUD__AGENT__LABELS": "['a']",
            "PREFECT__CONTEXT__FLOW_RUN_ID": run.id,
            "PREFECT__CONTEXT__FLOW_ID": run.flow.id,
            "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
            "PREFECT__LOGGING__LOG_TO_CLOUD": "false",
            "PREFECT__LOGGING__LEVEL": "DEBUG",
            "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudFlowRunner",
            "PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS": "prefect.engine.cloud.CloudTaskRunner",
            "MINE": "1",
        }

    def test_with_a_run_config_it_returns_the_whole_environment_as_prefect_1_does(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("INHERITED", "1")
        env = at_a_server(env_vars={"A": "agent"}).populate_env_vars(
            run_of("1.4.1"), run_config=LocalRun(env={"A": "run"}, working_dir="/work")
        )
        assert (env["INHERITED"], env["A"], env["PATH"]) == ("1", "run", os.environ["PATH"])
        assert env["PYTHONPATH"].split(os.pathsep)[0] == "/work"
        assert env["PREFECT__CLOUD__SEND_FLOW_RUN_LOGS"] == "true"
        assert env["PREFECT__CLOUD__API_KEY"] == "token"

    def test_an_agent_whose_runs_have_no_engine_gives_them_its_own_variables(self) -> None:
        agent = LocalAgent(backend=MemoryBackend(), env_vars={"A": "1", "B": None})
        assert agent.populate_env_vars(run_of(None, {"type": "Command"})) == {"A": "1"}

    def test_runs_are_given_the_token_that_an_overridden_flow_run_api_key_returns(self) -> None:
        class Delegating(LocalAgent):
            @property
            def flow_run_api_key(self) -> str | None:
                return f"of the run, not {super().flow_run_api_key}"

        assert at_a_server().flow_run_api_key == "token"
        assert at_a_server(token="").flow_run_api_key is None
        env = at_a_server(Delegating).populate_env_vars(run_of("1.4.1"))
        assert env["PREFECT__CLOUD__AUTH_TOKEN"] == "of the run, not token"

    def test_variables_and_paths_that_no_run_can_have_are_refused_by_the_constructor(self) -> None:
        for given in (
            {"env_vars": {"A": 1}},
            {"env_vars": {"A=B": "x"}},
            {"import_paths": [5]},
            {"import_paths": "/a"},
        ):
            with pytest.raises(ConfigurationError, match=r"env_vars|import_paths"):
                LocalAgent(backend=MemoryBackend(), **given)


class OtherRun:
    """A run config of another package."""

    def __init__(self, image: str | None = None, env: Any = None, labels: Any = None) -> None:
        self.image, self.env, self.labels = image, env, labels


class TestRunConfig:
    def test_it_is_an_object_of_the_class_that_is_asked_for(self) -> None:
        agent = Agent(backend=MemoryBackend())
        stored = {"type": "OtherRun", "__version__": "1.4.1", "image": "i", "env": {"A": "1"}, "labels": ["x"]}
        config = agent._get_run_config(run_of("1.4.1", run_config=stored), OtherRun)
        assert (type(config), config.image, config.env, config.labels) == (OtherRun, "i", {"A": "1"}, ["x"])

    def test_a_universal_run_fits_every_class_and_no_run_config_is_the_default_of_the_class(self) -> None:
        agent = Agent(backend=MemoryBackend())
        universal = {"type": "UniversalRun", "env": {"A": "1"}, "labels": []}
        assert agent._get_run_config(run_of("1.4.1", run_config=universal), OtherRun).env == {"A": "1"}
        assert agent._get_run_config(run_of("1.4.1"), OtherRun).image is None

    def test_one_for_another_platform_is_a_type_error_that_names_both(self) -> None:
        run = run_of("1.4.1", run_config={"type": "KubernetesRun"})
        with pytest.raises(TypeError, match="`run_config` of type `KubernetesRun`, only `OtherRun` is supported"):
            Agent(backend=MemoryBackend())._get_run_config(run, OtherRun)


def test_generate_supervisor_conf_has_the_options_and_leaves_the_token_out() -> None:
    with pytest.warns(UserWarning, match="leaves the token out"):
        conf = LocalAgent.generate_supervisor_conf(
            token="hush", labels=["label"], import_paths=["path"], show_flow_logs=True, env_vars={"A": "b c"}
        )
    assert "hush" not in conf
    assert "start --show-flow-logs -l label -e 'A=b c' -p path" in conf


class TestNames:
    #: Private names that subclasses of Prefect's agents call or override.
    KNOWN = frozenset({"_get_run_config", "_register_agent", "_verify_token"})

    def test_private_names_of_the_published_classes_leave_all_others_to_subclasses(self) -> None:
        """A subclass for ssh may have a `_connect` or a `_host` of its own."""
        found = {
            name
            for kind in LocalAgent.__mro__[:-1]
            for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(kind))))
            for name in _own_names(node)
            if name.startswith("_") and not name.startswith("__")
        }
        assert {name for name in found - self.KNOWN if not name.startswith("_own_")} == set()
        assert len(found) > 20


def _own_names(node: ast.AST) -> list[str]:
    """Return the name that a node gives to the class or to its object, or takes from it."""
    if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self":
        return [node.attr]
    return [node.name] if isinstance(node, ast.FunctionDef) else []

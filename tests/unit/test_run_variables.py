"""The environment of a run: what None removes, what no process can have, and what an agent's class may change."""

from __future__ import annotations

import os
from typing import Any

import pytest

from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan
from flowherd.errors import UnsupportedStorage
from flowherd.values import FlowRun
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.flow_process import compose_environment
from flowherd_runner.osapi import environment
from tests.unit.test_prefect_runs import defaults, run_of

COMMAND = {"type": "Command", "argv": ["true"]}


def command(**run_config: Any) -> FlowRun:
    return run_of(None, COMMAND, run_config={"type": "LocalRun", **run_config})


def test_none_removes_a_variable_that_the_run_would_inherit_or_be_given() -> None:
    agent = AgentDefaults(env_vars={"INHERITED": None, "A": "agent", "B": None})
    spec = plan(command(env={"A": None, "B": "run"}), agent, "token")
    assert (spec.env, spec.env_removed) == ({"B": "run"}, ("A", "INHERITED"))
    composed, _ = compose_environment(spec, {"INHERITED": "1", "A": "2", "B": "3", "C": "4"}, None)
    assert ("INHERITED" in composed, "A" in composed, composed["B"], composed["C"]) == (False, False, "run", "4")


def test_a_variable_that_is_set_is_stronger_than_its_removal() -> None:
    spec = RunSpec("id", env={"A": "set"}, env_removed=("A",))
    assert compose_environment(spec, {"A": "inherited"}, None)[0]["A"] == "set"


def test_for_flows_before_0_14_none_only_leaves_a_variable_out() -> None:
    """As their own agents did; later ones removed it from what the run inherits, too."""
    agent = defaults(env_vars={"MISSING": None, "PREFECT__CLOUD__USE_LOCAL_SECRETS": None})
    old, new = plan(run_of("0.13.1"), agent, "token"), plan(run_of("1.4.1"), agent, "token")
    assert old.env_removed == ()
    assert not {"MISSING", "PREFECT__CLOUD__USE_LOCAL_SECRETS"} & old.env.keys()
    assert new.env_removed == ("MISSING",)
    assert new.env["PREFECT__CLOUD__USE_LOCAL_SECRETS"] == "false"  # of the protocol


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"A=B": "hush"}, "'A=B' cannot be the name"),
        ({"": "hush"}, "'' cannot be the name"),
        ({5: "hush"}, "5 cannot be the name"),
        ({"A\0": "hush"}, "cannot be the name"),
        ({"A": "hush\0"}, "the value of A contains a NUL"),
        ({"A": 5}, "A needs a text, or None to remove it, and has a value of type int"),
        ({"A": ["hush"]}, "A needs a text"),
    ],
)
def test_variables_that_no_process_can_have_are_refused_by_name_before_the_claim(given: Any, what: str) -> None:
    for agent, source in (
        (AgentDefaults(env_vars=given), "from env_vars of the agent: "),
        (AgentDefaults(own_variables=given), "from populate_env_vars: "),
    ):
        with pytest.raises(UnsupportedStorage) as refusal:
            plan(command(), agent, "token")
        assert source in str(refusal.value)
        assert what in str(refusal.value)
        assert "hush" not in str(refusal.value)


def test_a_run_config_with_an_impossible_variable_is_refused_too() -> None:
    with pytest.raises(UnsupportedStorage, match=r"from env of its run config: 'A=B' cannot be the name"):
        plan(command(env={"A=B": "x"}), AgentDefaults(), "token")


def test_what_a_runner_could_not_read_is_refused_before_the_claim() -> None:
    with pytest.raises(UnsupportedStorage, match="cannot be described to its runner: user in the spec is not of type"):
        plan(command(user=5), AgentDefaults(), "token")


@pytest.mark.parametrize("version", ["0.13.1", "0.15.2", "1.4.1"])
def test_what_the_agents_class_chooses_wins_over_agent_run_config_and_protocol(version: str) -> None:
    own = {"A": "class", "PREFECT__CLOUD__API": "http://other", "PREFECT__CLOUD__USE_LOCAL_SECRETS": None}
    agent = defaults(env_vars={"A": "agent"}, own_variables=own)
    env = plan(run_of(version, run_config={"type": "LocalRun", "env": {"A": "run"}}), agent, "token").env
    assert (env["A"], env["PREFECT__CLOUD__API"]) == ("class", "http://other")
    assert "PREFECT__CLOUD__USE_LOCAL_SECRETS" not in env


@pytest.mark.parametrize("version", ["0.13.1", "1.4.1"])
def test_the_agents_class_can_switch_off_a_runs_log_and_cannot_hide_the_run_from_its_engine(version: str) -> None:
    run = run_of(version)
    own = {
        "PREFECT__LOGGING__LOG_TO_CLOUD": "false",
        "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS": "false",
        "PREFECT__CONTEXT__FLOW_RUN_ID": None,
    }
    spec = plan(run, defaults(own_variables=own), "token")
    assert not spec.agent.send_logs
    assert spec.env["PREFECT__CONTEXT__FLOW_RUN_ID"] == run.id


def test_the_copy_of_the_environment_has_every_variable_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("LINES", "a=b\nc")
    monkeypatch.setenv("NOT_UTF_8", os.fsdecode(b"\xff\xc3"))
    assert environment() == dict(os.environ)
    with monkeypatch.context() as replaced:
        replaced.setattr(os, "environ", {"ONLY": "one"})  # as a program may do
        found = environment()
    assert found == {"ONLY": "one"}


def test_only_variables_that_are_new_to_a_run_can_be_too_long_for_it() -> None:
    long = "x" * 200_000
    spec = RunSpec(flow_run_id="r", env={"NEW": long})
    composed, left_out = compose_environment(spec, {"HERE": "1"}, None)
    assert left_out == ["NEW"]
    assert composed["HERE"] == "1"

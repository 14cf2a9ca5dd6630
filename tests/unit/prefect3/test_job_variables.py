"""How job variables become a job configuration: the rules of Prefect 3's process worker, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from flowherd.backends.prefect3 import job_template
from flowherd.backends.prefect3.job_variables import (
    PROCESS_TEMPLATE,
    JobConfiguration,
    job_configuration,
    merge_job_variables,
)


def configured(
    variables: dict[str, Any], template: Any = PROCESS_TEMPLATE, environ: dict[str, str] | None = None
) -> JobConfiguration:
    stored = {"blocks.secret.key": "s3cret", "variables.site": "north", "variables.list": [1, 2]}
    look_up = {
        job_template.BLOCKS: lambda name: stored[f"blocks.{name}"],
        job_template.VARIABLES: lambda name: stored.get(f"variables.{name}", ""),
    }
    return job_configuration(template, variables, environ or {}, look_up)


def with_env(own: Any, default: Any = None) -> dict[str, Any]:
    """Return the template with its own `env`, and a default for the variable."""
    properties = {**PROCESS_TEMPLATE["variables"]["properties"], "env": {"type": "object", "default": default}}
    return {
        "job_configuration": {**PROCESS_TEMPLATE["job_configuration"], "env": own},
        "variables": {"properties": properties},
    }


def test_without_variables_the_configuration_is_that_of_prefects_worker() -> None:
    assert (
        configured({})
        == configured({}, {})
        == JobConfiguration(command=None, env={}, stream_output=True, working_dir=None)
    )


def test_variables_keep_their_types() -> None:
    given = {"command": "python -c 1", "env": {"A": "1", "N": 2, "GONE": None}, "stream_output": False}
    assert configured({**given, "working_dir": "/work"}) == JobConfiguration(
        command="python -c 1", env={"A": "1", "N": "2", "GONE": None}, stream_output=False, working_dir="/work"
    )


def test_a_variable_that_is_null_is_not_set() -> None:
    assert configured({"command": None, "working_dir": None, "env": None}) == JobConfiguration()


def test_env_is_merged_from_the_template_its_default_and_the_variables() -> None:
    template = with_env({"A": "template", "B": "template", "C": "template"}, {"B": "default", "C": "default"})
    assert configured({"env": {"C": "given"}}, template).env == {"A": "template", "B": "default", "C": "given"}


def test_dotted_names_stand_for_nested_ones_and_nested_ones_win() -> None:
    assert configured({"env.A": "dotted", "env.B": "dotted", "env": {"B": "nested"}}).env == {
        "A": "dotted",
        "B": "nested",
    }


def test_a_runs_own_variables_win_over_its_deployments() -> None:
    of_deployment = {"env": {"A": "1", "B": "1"}, "command": "x"}
    assert merge_job_variables(of_deployment, {"env": {"B": "2"}, "stream_output": False}) == {
        "env": {"A": "1", "B": "2"},
        "command": "x",
        "stream_output": False,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ prefect.blocks.secret.key }}", "s3cret"),
        ("key={{prefect.blocks.secret.key}}!", "key=s3cret!"),
        ("{{ prefect.variables.site }}", "north"),
        ("{{ prefect.variables.list }}", "[1, 2]"),
        ("{{ prefect.variables.nowhere }}/x", "/x"),
        ("{{ prefect.variables.site }} {{ prefect.blocks.secret.key }}", "north s3cret"),
        ("no {{ placeholder in it", "no {{ placeholder in it"),
    ],
)
def test_blocks_and_variables_of_the_server_are_filled_in_after_job_variables(text: str, value: str) -> None:
    assert configured({"env": {"A": text}}).env == {"A": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{{ $PLACE }}", "here"),
        ("{{ $NOWHERE }}", ""),
        ("{{ name }}-{{ unknown }}", "n-"),
        ("{{ env.A }}", "1"),
        ("{{ labels }}", "{'l': [5]}"),
        ("{{ labels.l[0] }}", "5"),
    ],
)
def test_a_template_uses_variables_by_path_and_the_workers_environment(text: str, value: str) -> None:
    given = {"name": "n", "env": {"A": "1"}, "labels": {"l": [5]}}
    assert configured(given, with_env({"X": text}), {"PLACE": "here"}).env["X"] == value


def test_a_key_whose_variable_is_unknown_is_left_out() -> None:
    assert configured({}, with_env({"X": "{{ unknown }}", "Y": "1"})).env == {"Y": "1"}


@pytest.mark.parametrize(
    ("variables", "template"),
    [
        ({"stream_output": "often"}, PROCESS_TEMPLATE),
        ({"env": ["A"]}, PROCESS_TEMPLATE),
        ({"command": 5}, PROCESS_TEMPLATE),
        ({"a.b": 1, "a.b.c": 2}, PROCESS_TEMPLATE),
        ({}, {"job_configuration": []}),
        ({}, {"job_configuration": {}, "variables": {"properties": {"env": 1}}}),
    ],
)
def test_variables_and_templates_that_cannot_be_used_are_refused(variables: dict[str, Any], template: Any) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        configured(variables, template)


def test_a_template_that_is_nested_too_deeply_is_refused() -> None:
    nested: Any = "x"
    for _ in range(100):
        nested = [nested]
    with pytest.raises(ValueError, match="too deeply"):
        configured({}, with_env({"X": nested}))


def test_values_of_the_environment_that_come_from_blocks_are_secret() -> None:
    env = {
        "A": "{{ prefect.blocks.secret.key }}",
        "B": "key={{ prefect.blocks.secret.key }}",
        "C": "x",
        "D": "{{ $D }}",
    }
    assert configured({"env": {**env, "E": "{{ prefect.variables.site }}"}}).secret_env == ("A", "B")


def test_all_of_an_environment_that_is_a_block_is_secret() -> None:
    def block(_name: str) -> dict[str, str]:
        return {"A": "1", "B": "2"}

    template = with_env("{{ prefect.blocks.json.env }}")
    look_up = {job_template.BLOCKS: block, job_template.VARIABLES: str}
    assert job_configuration(template, {}, {}, look_up).secret_env == ("A", "B")

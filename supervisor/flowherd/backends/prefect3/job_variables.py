"""How a flow run is to be run: its job variables put into its work pool's template, as the process worker does it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3 import templating

#: What a pool is created with: the variables of Prefect's own process worker, in our words.
PROCESS_TEMPLATE: Mapping[str, Any] = {
    "job_configuration": {
        "command": "{{ command }}",
        "env": "{{ env }}",
        "labels": "{{ labels }}",
        "name": "{{ name }}",
        "stream_output": "{{ stream_output }}",
        "working_dir": "{{ working_dir }}",
    },
    "variables": {
        "type": "object",
        "properties": {
            "name": {
                "title": "Name",
                "description": "What to call the run's process.",
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
            },
            "env": {
                "title": "Environment Variables",
                "description": "Environment variables of the run.",
                "type": "object",
                "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "labels": {
                "title": "Labels",
                "description": "Labels of the run's process.",
                "type": "object",
                "additionalProperties": {"type": "string"},
            },
            "command": {
                "title": "Command",
                "description": "A command to run instead of Prefect's own; usually left empty.",
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "default": None,
            },
            "stream_output": {
                "title": "Stream Output",
                "description": "Whether the run's output is shown on the worker's own.",
                "type": "boolean",
                "default": True,
            },
            "working_dir": {
                "title": "Working Directory",
                "description": "Where the run starts; a temporary directory where nothing is given.",
                "anyOf": [{"type": "string", "format": "path"}, {"type": "null"}],
                "default": None,
            },
        },
    },
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job configuration of the process worker's shape."""

    #: None for Prefect's own engine.
    command: str | None = None
    #: A value of None takes a variable out that would be set otherwise.
    env: Mapping[str, str | None] = field(default_factory=dict)
    stream_output: bool = True
    working_dir: str | None = None
    #: Names of `env` whose values are of blocks, as a whole or in part.
    secret_env: tuple[str, ...] = ()


def job(
    template: Mapping[str, Any],
    variables: Mapping[str, Any],
    environ: Mapping[str, str],
    look_up: Mapping[str, Callable[[str], Any]],
) -> Job:
    """The job of a run with these job variables.

    `template` is a pool's base job template; an empty one stands for PROCESS_TEMPLATE. `look_up` finds what the server
    holds, by the prefixes of `templating`.

    Raises ValueError or TypeError when the template or what is put into it cannot be used.
    """
    template = template or PROCESS_TEMPLATE
    configuration = copy.deepcopy(dict(json_values.mapping(template["job_configuration"])))
    values = _defaults(json_values.mapping(template["variables"]))
    if values.get("env"):
        own = configuration.get("env")
        configuration["env"] = {**own, **values["env"]} if isinstance(own, dict) else values["env"]
    values.update(_nested(variables))
    if isinstance(configuration.get("env"), dict) and values.get("env"):
        configuration["env"] = {**configuration["env"], **json_values.mapping(values["env"])}
    configuration = templating.filled(configuration, values, environ)
    without_blocks = configuration.get("env")
    configuration = templating.resolved(configuration, templating.BLOCKS, look_up[templating.BLOCKS])
    secret_env = _changed(without_blocks, configuration.get("env"))
    configuration = templating.resolved(configuration, templating.VARIABLES, look_up[templating.VARIABLES])
    return replace(_job(configuration), secret_env=secret_env)


def merged(of_deployment: Mapping[str, Any], of_run: Mapping[str, Any]) -> dict[str, Any]:
    """The job variables of a run: its own win over its deployment's, in `env` name by name."""
    variables = {**of_deployment, **of_run}
    if isinstance(of_deployment.get("env"), dict) and isinstance(of_run.get("env"), dict):
        variables["env"] = {**of_deployment["env"], **of_run["env"]}
    return variables


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = json_values.mapping(schema.get("properties") or {})
    found = {name: json_values.mapping(about).get("default") for name, about in properties.items()}
    return {name: copy.deepcopy(value) for name, value in found.items() if value is not None}


def _nested(variables: Mapping[str, Any]) -> dict[str, Any]:
    """`{"env.A": 1}` means `{"env": {"A": 1}}`; what is given nested already wins."""
    nested: dict[str, Any] = {}
    for name, value in variables.items():
        if "." in name:
            _put(nested, name.split("."), value)
    for name, value in variables.items():
        if "." not in name:
            below = nested.get(name)
            nested[name] = _deeply(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return nested


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise TypeError(f"the job variable {'.'.join(path)} is within one that is no mapping")
    values[path[-1]] = value


def _deeply(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        own = merged.get(key)
        merged[key] = _deeply(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return merged


def _changed(before: Any, after: Any) -> tuple[str, ...]:
    """The names of `after` whose values were others before, or were not there: all where the mapping itself was not."""
    known = before if isinstance(before, dict) else {}
    return tuple(name for name, value in after.items() if known.get(name) != value) if isinstance(after, dict) else ()


def _job(configuration: Mapping[str, Any]) -> Job:
    env = json_values.mapping(configuration.get("env") or {})
    stream_output = configuration.get("stream_output", True)
    if not isinstance(stream_output, bool):
        raise TypeError(f"stream_output is true or false, not {stream_output!r:.80}")
    return Job(
        command=json_values.text_or_none(configuration.get("command")) or None,
        env={name: None if value is None else str(value) for name, value in env.items()},
        stream_output=stream_output,
        working_dir=json_values.text_or_none(configuration.get("working_dir")) or None,
    )

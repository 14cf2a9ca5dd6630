"""Put a flow run's job variables into its work pool's template, as Prefect 3's process worker does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from flowherd.backends import json_values
from flowherd.backends.prefect3 import job_template

#: Base job template of a new pool: the variables of Prefect's own process worker, with descriptions of our own.
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
class JobConfiguration:
    """How to run a flow run: the fields of the process worker's job configuration."""

    #: Command to run; None for Prefect's own engine.
    command: str | None = None
    #: Environment variables; None removes one that would be set otherwise.
    env: Mapping[str, str | None] = field(default_factory=dict)
    stream_output: bool = True
    working_dir: str | None = None
    #: Names in `env` whose values come from blocks, as a whole or in part.
    secret_env: tuple[str, ...] = ()


def job_configuration(
    template: Mapping[str, Any],
    variables: Mapping[str, Any],
    environ: Mapping[str, str],
    look_up: Mapping[str, Callable[[str], Any]],
) -> JobConfiguration:
    """Return the job configuration of a run with these job variables.

    `template` is a pool's base job template; an empty one stands for PROCESS_TEMPLATE. `look_up` finds values stored
    on the server, by the prefixes of `job_template`.

    Raises ValueError, TypeError or KeyError if the template or a value in it cannot be used.
    """
    template = template or PROCESS_TEMPLATE
    fields = copy.deepcopy(dict(json_values.mapping(template["job_configuration"])))
    values = _defaults(json_values.mapping(template["variables"]))
    if values.get("env"):
        own = fields.get("env")
        fields["env"] = {**own, **values["env"]} if isinstance(own, dict) else values["env"]
    values.update(_expand_dotted_names(variables))
    if isinstance(fields.get("env"), dict) and values.get("env"):
        fields["env"] = {**fields["env"], **json_values.mapping(values["env"])}
    fields = job_template.fill_in_variables(fields, values, environ)
    without_blocks = fields.get("env")
    fields = job_template.fill_in_stored(fields, job_template.BLOCKS, look_up[job_template.BLOCKS])
    secret_env = _changed_names(without_blocks, fields.get("env"))
    fields = job_template.fill_in_stored(fields, job_template.VARIABLES, look_up[job_template.VARIABLES])
    return replace(_checked(fields), secret_env=secret_env)


def merge_job_variables(of_deployment: Mapping[str, Any], of_run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's job variables: its own win over its deployment's, and within `env` name by name."""
    variables = {**of_deployment, **of_run}
    if isinstance(of_deployment.get("env"), dict) and isinstance(of_run.get("env"), dict):
        variables["env"] = {**of_deployment["env"], **of_run["env"]}
    return variables


def _defaults(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = json_values.mapping(schema.get("properties") or {})
    found = {name: json_values.mapping(about).get("default") for name, about in properties.items()}
    return {name: copy.deepcopy(value) for name, value in found.items() if value is not None}


def _expand_dotted_names(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"env.A": 1}` into `{"env": {"A": 1}}`; a value that is given nested wins over one given dotted."""
    nested: dict[str, Any] = {}
    for name, value in variables.items():
        if "." in name:
            _put(nested, name.split("."), value)
    for name, value in variables.items():
        if "." not in name:
            dotted = nested.get(name)
            nested[name] = _merge(dotted, value) if isinstance(dotted, dict) and isinstance(value, dict) else value
    return nested


def _put(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise TypeError(f"the job variable {'.'.join(path)} is within another one that is not an object")
    values[path[-1]] = value


def _merge(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two nested mappings at every level."""
    merged = dict(weaker)
    for key, value in stronger.items():
        other = merged.get(key)
        merged[key] = _merge(other, value) if isinstance(other, dict) and isinstance(value, dict) else value
    return merged


def _changed_names(before: Any, after: Any) -> tuple[str, ...]:
    """Return the names in `after` that are new or have another value; all of them if `before` was not a mapping."""
    known = before if isinstance(before, dict) else {}
    return tuple(name for name, value in after.items() if known.get(name) != value) if isinstance(after, dict) else ()


def _checked(fields: Mapping[str, Any]) -> JobConfiguration:
    env = json_values.mapping(fields.get("env") or {})
    stream_output = fields.get("stream_output", True)
    if not isinstance(stream_output, bool):
        raise TypeError(f"stream_output has to be true or false, not {stream_output!r:.80}")
    return JobConfiguration(
        command=json_values.text_or_none(fields.get("command")) or None,
        env={name: None if value is None else str(value) for name, value in env.items()},
        stream_output=stream_output,
        working_dir=json_values.text_or_none(fields.get("working_dir")) or None,
    )

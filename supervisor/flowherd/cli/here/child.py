"""The spec of a run that has no agent, and the program on the child side that it is given to (without_runner.py)."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flowherd.cli.here.kept_definitions import Definition
from flowherd.config import LoadedSettings
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plain import PLAIN
from flowherd.engines.plan import plan, runtime_of
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.runtimes import checked_rules
from flowherd.errors import UnsupportedStorage
from flowherd.host.processes.interpreters import program_of
from flowherd.isolation.levels import merged, requested_isolation, without_request
from flowherd.states import RunState
from flowherd.values import Flow, FlowRun
from flowherd_runner import BOOT_FILE
from flowherd_runner.contract.files import SPEC_FILE, write_json
from flowherd_runner.contract.isolation import NONE, Isolation
from flowherd_runner.contract.spec import RunLimits, RunSpec, spec_to_json


def spec_of_flow(
    definition: Definition, parameters: Mapping[str, Any], loaded: LoadedSettings, run_name: str
) -> RunSpec:
    """Return the spec of a run of the flow, as an agent with these settings would make it, without isolation.

    Raises UnsupportedStorage for a flow that has an engine of its own, and as `plan` does.
    """
    not_isolated = replace(definition, run_config=without_request(definition.run_config or {}))
    return _spec(not_isolated, parameters, loaded, run_name, Isolation())


def level_of(definition: Definition, loaded: LoadedSettings) -> str:
    """Return the level of isolation that the flow's runs have at an agent with these settings.

    Raises ValueError if the flow's own request cannot be understood.
    """
    asked = loaded.settings.runs.isolation
    request = requested_isolation(definition.run_config or {})
    return merged(Isolation(level=asked.level, network=asked.network), request._replace(write=(), hide=())).level


def isolation_problems(definition: Definition, loaded: LoadedSettings) -> Sequence[str]:
    """Return why an agent with these settings would refuse the flow's runs for the sake of their isolation."""
    try:
        if level_of(definition, loaded) != NONE:
            from flowherd.host.isolation_floor import floor_of  # only few flows need what that imports

            _spec(definition, {}, loaded, "check", floor_of(loaded.settings, loaded, os.environ))
    except (UnsupportedStorage, ValueError) as error:
        return [str(error)]
    return []


def _spec(
    definition: Definition, parameters: Mapping[str, Any], loaded: LoadedSettings, run_name: str, floor: Isolation
) -> RunSpec:
    if not PLAIN.recognises(definition.storage):
        raise UnsupportedStorage(f"the flow has the storage {definition.storage.get('type')!r:.80}")
    flow = Flow(id="", name=definition.name, storage=definition.storage, run_config=definition.run_config)
    flow_run = FlowRun(
        id=str(uuid.uuid4()),
        name=run_name,
        version=0,
        state=RunState.SCHEDULED,
        serialized_state={},
        flow=flow,
        parameters=dict(parameters),
    )
    settings = loaded.settings
    defaults = AgentDefaults(
        env_vars=settings.cloud.agent.env_vars,
        import_paths=settings.agent.import_paths,
        limits=RunLimits(**settings.runs.limits.values()),
        runtimes=checked_rules(settings.runtimes, environment_for_runs(os.environ), None),
        user_env=settings.runs.user_env,
        users_work_dir=settings.runs.users_work_dir,
        secrets=settings.runs.secrets,
        env_files=settings.runs.env_files,
        grace_s=settings.agent.grace,
        isolation=floor,
    )
    return plan(flow_run, defaults, "")


@contextmanager
def child_program(spec: RunSpec, program: str, *options: str) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    """Yield command line and environment of a program of the child side; its directory lasts until the end."""
    with tempfile.TemporaryDirectory(prefix="flowherd-", ignore_cleanup_errors=True) as directory:
        write_json(directory, SPEC_FILE, spec_to_json(spec), sync=False)
        argv = [program_of(runtime_of(spec).interpreter), BOOT_FILE, program, "--directory", directory, *options]
        yield argv, environment_for_runs(os.environ)

"""Runs of a Prefect 3 work pool: carried out by Prefect's engine, or by a command that the deployment names.

The backend has composed the environment as Prefect's own worker does, and the engine gets the parameters from the
server. A command is expected to start Prefect's engine too, so its run counts as one whose engine reports its states.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from typing import Any

from flowherd.engines.base import AgentDefaults, Engine
from flowherd.engines.run_config import argument
from flowherd.engines.runtimes import EnginePackage, first_serving
from flowherd.engines.sealed_results import ResultsPlace
from flowherd.errors import UnsupportedStorage
from flowherd.states import RunState
from flowherd.values import FlowRun, StateReport
from flowherd_runner.contract import reasons
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import (
    KIND_COMMAND,
    KIND_PREFECT3,
    KIND_PREFECT3_COMMAND,
    KIND_PREFECT3_HOOKS,
    PREFECT3_PRELOAD,
)

PREFECT3_PACKAGE = EnginePackage(
    name="prefect",
    title="Prefect",
    lines=frozenset({"3"}),
    preload=PREFECT3_PRELOAD,
    warning_if_missing=(
        "No interpreter with Prefect 3 is known here, so runs without a command of their own will crash: "
        "name one with --runtime NAME=VIRTUAL-ENVIRONMENT"
    ),
)
#: The variable by which Prefect decides whether to send a run's log, and the words that it knows (pydantic's).
_LOG_SWITCH = "PREFECT_LOGGING_TO_API_ENABLED"
_NO = frozenset({"0", "off", "f", "false", "n", "no"})
_YES = frozenset({"1", "on", "t", "true", "y", "yes"})
#: What the backend calls the storage of the flows that it hands out.
_STORAGE = "Prefect3"
#: Ends after which no hook is called: the flow was not there, or the agent is leaving.
_WITHOUT_HOOKS = frozenset({reasons.REASON_NOT_STARTED, reasons.REASON_EXCEPTION, reasons.REASON_AGENT_STOP})
#: How long the hooks of one run may take, seconds.
_MAX_HOOKS_S = 600.0
#: Keys of the storage of which at least one is set when a deployment has code to be fetched.
_CODE = ("pull_steps", "path", "storage_document_id")


def _describe(spec: RunSpec, flow_run: FlowRun, config: Mapping[str, Any], defaults: AgentDefaults) -> RunSpec:
    storage = flow_run.flow.storage
    if storage.get("refused"):
        raise UnsupportedStorage(str(storage["refused"]))
    env = {**defaults.engine_variables, **spec.env}
    keys = spec.agent._replace(
        show_output=config.get("stream_output") is not False, send_logs=_sends_logs(env, defaults)
    )
    spec = spec._replace(parameters={}, env=env, agent=keys)
    known = storage.get("documents") or {}
    target = {
        "flow_run_id": flow_run.id,
        "entrypoint": storage.get("entrypoint"),
        **{name: known[name] for name in ("flow_run", "deployment") if name in known},
    }
    command = config.get("command")
    if command is None:
        return spec._replace(kind=KIND_PREFECT3, target=target)
    argv = _words(command)
    rule = first_serving(flow_run, defaults.runtimes)
    # Prefect's worker fetches the code before it starts the command; that takes a runtime that has Prefect.
    if rule is not None and rule.has_engine and any(storage.get(name) for name in _CODE):
        return spec._replace(kind=KIND_PREFECT3_COMMAND, target={**target, "argv": argv})
    return spec._replace(kind=KIND_COMMAND, target={"argv": argv})


def _sends_logs(env: Mapping[str, str], defaults: AgentDefaults) -> bool:
    """Whether the run's log is forwarded: all of it or nothing, because its output has copies of its records."""
    switch = env.get(_LOG_SWITCH, "").strip().lower()
    return switch not in _NO if switch in _YES | _NO else defaults.logging_to_api


def _hooks_of_killed(spec: RunSpec, report: StateReport, killed: bool, wanted: Collection[str]) -> RunSpec | None:
    """Call the hooks that the process could not call: it unwinds at a cancellation and calls them itself otherwise."""
    is_cancelled = report.state is RunState.CANCELLED
    if report.reason in _WITHOUT_HOOKS or (is_cancelled and not killed):
        return None
    if ("on_cancellation_hooks" if is_cancelled else "on_crashed_hooks") not in wanted:
        return None
    run_time_s = min(spec.limits.run_time_s or _MAX_HOOKS_S, _MAX_HOOKS_S)
    return spec._replace(kind=KIND_PREFECT3_HOOKS, limits=spec.limits._replace(run_time_s=run_time_s))


def _words(command: object) -> list[str]:
    try:
        argv = shlex.split(argument("command", command))
    except ValueError as error:
        raise UnsupportedStorage(f"The job variable command cannot be used: {error}: {command!r:.200}") from error
    if not argv:
        raise UnsupportedStorage("The job variable command has no word in it")
    return argv


_RESULTS = ResultsPlace(
    below_home=".prefect/storage",
    warning="Results that Prefect would keep in {} are in this run's own /tmp and gone with it, because it is sealed.",
    instead={"PREFECT_RESULTS_LOCAL_STORAGE_PATH": "/tmp/.prefect/storage"},
    variables=("PREFECT_RESULTS_LOCAL_STORAGE_PATH", "PREFECT_LOCAL_STORAGE_PATH"),
    not_inherited=("PREFECT_HOME",),
)

PREFECT3 = Engine(
    name="prefect3",
    recognises=lambda storage: storage.get("type") == _STORAGE,
    describe=_describe,
    kinds=frozenset({KIND_PREFECT3, KIND_PREFECT3_COMMAND, KIND_PREFECT3_HOOKS}),
    reports_states=True,
    after_end=_hooks_of_killed,
    package=PREFECT3_PACKAGE,
    results=_RESULTS,
)

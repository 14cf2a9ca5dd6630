"""The environment in which Prefect's own engine finds its flow run, its backend and its settings.

The names, and which of two values wins, are those of the real agents: docs/dialect.md, "The engine's environment". Two
things are flowherd's alone and are never left to others: the engine sends no logs, because the run's journal does, and
no heartbeats, because the agent does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flowherd.values import EngineAccess, Flow, FlowRun

_ENGINE = "prefect.engine.cloud."
#: By what the engine of one version or another knows whether to send its log to the backend itself.
_LOG_SWITCHES = ("PREFECT__LOGGING__LOG_TO_CLOUD", "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS")
_NO = frozenset({"false", "0"})
_VERSION = re.compile(r"(\d+)\.(\d+)")


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What the agent tells every engine."""

    access: EngineAccess
    #: "server" or "cloud", as Prefect calls them.
    backend: str = "server"
    #: The agent's.
    labels: Sequence[str] = ()
    #: Where a run goes that names no directory: the agent's own.
    working_dir: str = "/"
    #: Inherited by the runs; empty is none.
    python_path: str = ""
    import_paths: Sequence[str] = ()
    #: The agent's -e.
    env_vars: Mapping[str, str] = field(default_factory=dict)


def prefect_environment(
    flow_run: FlowRun, chosen: Mapping[str, str], working_dir: str, settings: EngineSettings
) -> dict[str, str]:
    """What the run's environment has beyond the inherited one; `chosen` is what its run config sets.

    Before 0.14 what the agent was given with -e wins over nearly everything, later only over what is no matter of the
    protocol.
    """
    if _is_old(flow_run.flow):
        env = {**_required(flow_run, settings), **_required_of_old(settings), **settings.env_vars, **chosen}
        paths = [env.get("PYTHONPATH", settings.python_path), settings.working_dir, *settings.import_paths]
        env["PYTHONPATH"] = _joined(paths)
    else:
        paths = [working_dir, settings.python_path, *settings.import_paths]
        env = {"PYTHONPATH": _joined(paths), **settings.env_vars, **chosen, **_required(flow_run, settings)}
        if not _is_new(flow_run.flow):
            env = {**_required_of_old_runners(), **env}
    return {**env, **_ours(flow_run)}


def sends_logs(chosen: Mapping[str, str], settings: EngineSettings) -> bool:
    """Whether the run's log is to reach the backend: a run, or the agent's -e, may say no, and not yes against it."""
    said = {**settings.env_vars, **chosen}
    return not any(said.get(name, "").strip().lower() in _NO for name in _LOG_SWITCHES)


def _required(flow_run: FlowRun, settings: EngineSettings) -> dict[str, str]:
    access = settings.access
    env = {
        "PREFECT__BACKEND": settings.backend,
        "PREFECT__CLOUD__API": access.api,
        # Before 1.0 the engine posts to this one, which by default is the other and /graphql behind it.
        "PREFECT__CLOUD__GRAPHQL": access.endpoint,
        "PREFECT__CLOUD__AGENT__LABELS": str(list(settings.labels)),
        "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
        "PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": _ENGINE + "CloudFlowRunner",
    }
    if access.token:
        env["PREFECT__CLOUD__AUTH_TOKEN"] = env["PREFECT__CLOUD__API_KEY"] = access.token
        if access.tenant_id:
            env["PREFECT__CLOUD__TENANT_ID"] = access.tenant_id
    return env


def _required_of_old(settings: EngineSettings) -> dict[str, str]:
    return {"PREFECT__LOGGING__LEVEL": "DEBUG", **_required_of_old_runners()}


def _required_of_old_runners() -> dict[str, str]:
    # Not from 1.0 on: there a flow that is run inside of a task would take this runner, and fail.
    return {"PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS": _ENGINE + "CloudTaskRunner"}


def _ours(flow_run: FlowRun) -> dict[str, str]:
    return {
        "PREFECT__CONTEXT__FLOW_RUN_ID": flow_run.id,
        "PREFECT__CONTEXT__FLOW_ID": flow_run.flow.id,
        **dict.fromkeys(_LOG_SWITCHES, "false"),
        "PREFECT__CLOUD__HEARTBEAT_MODE": "off",
    }


def _joined(paths: Sequence[str]) -> str:
    return os.pathsep.join(path for path in paths if path)


def _is_old(flow: Flow) -> bool:
    """Whether the flow is of a Prefect before 0.14, which had environments where later ones have run configs."""
    version = _release(flow)
    return version < (0, 14) if version else flow.run_config is None and flow.environment is not None


def _is_new(flow: Flow) -> bool:
    """Whether the flow is of Prefect 1.0 or later, as one that does not say is taken to be."""
    version = _release(flow)
    return version is None or version >= (1, 0)


def _release(flow: Flow) -> tuple[int, int] | None:
    match = _VERSION.match(flow.core_version or "")
    return (int(match[1]), int(match[2])) if match else None

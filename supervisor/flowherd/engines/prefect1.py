"""Flows of Prefect 0.x and 1.x: carried out by Prefect's own engine, which finds everything in its environment.

Names of variables, and which of two values wins, are those of Prefect's agents: docs/dialect.md, "The engine's
environment". Two things are never left to others: the engine sends no logs, because the run's journal is forwarded, and
no heartbeats, because the agent sends them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from flowherd.config.proxies import proxies_of
from flowherd.engines.base import AgentDefaults, AgentView, Engine, unsupported_storage
from flowherd.engines.runtimes import EnginePackage
from flowherd.engines.sealed_results import ResultsPlace
from flowherd.engines.variables import Variables, merged, variables_by_name
from flowherd.errors import UnsupportedStorage
from flowherd.values import EngineAccess, Flow, FlowRun
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import KIND_PREFECT, PREFECT_PRELOAD

PREFECT1_PACKAGE = EnginePackage(
    name="prefect",
    title="Prefect",
    lines=frozenset({"0", "1"}),
    preload=PREFECT_PRELOAD,
)
#: Storages of Prefect whose flows no process of this host can run.
_UNSUPPORTED = frozenset({"Docker"})
_ENGINE = "prefect.engine.cloud."
_FLOW_RUNNER = {"PREFECT__ENGINE__FLOW_RUNNER__DEFAULT_CLASS": _ENGINE + "CloudFlowRunner"}
#: Variables by which an engine, depending on its version, decides whether to send its log to the backend itself.
_LOG_SWITCHES = ("PREFECT__LOGGING__LOG_TO_CLOUD", "PREFECT__CLOUD__SEND_FLOW_RUN_LOGS")
_NO = frozenset({"false", "0"})
_VERSION = re.compile(r"(\d+)\.(\d+)")


def _recognises(storage: Mapping[str, Any]) -> bool:
    """Any storage that has a name: new ones are Prefect's business, which loads them in the run."""
    kind = storage.get("type")
    return isinstance(kind, str) and bool(kind) and kind not in _UNSUPPORTED


def _describe(spec: RunSpec, flow_run: FlowRun, config: Mapping[str, Any], defaults: AgentDefaults) -> RunSpec:
    """The engine gets its parameters from the backend, and its import paths by PYTHONPATH."""
    storage, core_version = flow_run.flow.storage, flow_run.flow.core_version
    if defaults.access is None:
        raise UnsupportedStorage(
            f"{unsupported_storage(storage)}: this backend has no API that its engine could report to"
        )
    working_dir = spec.working_dir or defaults.started_in
    chosen = variables_by_name(config.get("env"))
    env = engine_environment(flow_run, chosen, working_dir, defaults, defaults.access)
    # The agents before 0.14 only leave out what is None; a run inherits it all the same.
    removed = () if _is_old(flow_run.flow) else tuple(name for name in spec.env_removed if name not in env)
    return spec._replace(
        kind=KIND_PREFECT,
        target={"flow_run_id": flow_run.id, "core_version": core_version, "storage": storage["type"]},
        parameters={},
        env=env,
        env_removed=removed,
        working_dir=working_dir,
        import_paths=(),
        agent=spec.agent._replace(send_logs=_sends_logs(chosen, defaults)),
    )


def _files_of(storage: Mapping[str, Any]) -> list[str]:
    """Return the pickles or scripts of Prefect's storage Local; the paths of others are at other hosts."""
    if storage.get("type") != "Local":
        return []
    flows = storage.get("flows")
    named = [storage.get("path"), *(flows.values() if isinstance(flows, Mapping) else ())]
    return [path for path in named if isinstance(path, str)]


#: The place is part of a flow that was stored as a pickle, so no variable changes it.
_RESULTS = ResultsPlace(
    below_home=".prefect/results",
    warning=(
        "Results that Prefect keeps in {} are in a directory of this run's own at that path, gone with it because "
        "it is sealed."
    ),
    variables=("PREFECT__HOME_DIR",),
)

PREFECT1 = Engine(
    name="prefect1",
    recognises=_recognises,
    describe=_describe,
    kinds=frozenset({KIND_PREFECT}),
    reports_states=True,
    reports_start=False,
    package=PREFECT1_PACKAGE,
    results=_RESULTS,
    files_of=_files_of,
    variables=lambda view: _variables_of_0_13(view) if view.chosen is None else _variables_of_1(view),
)


def engine_environment(
    flow_run: FlowRun, chosen: Variables, working_dir: str, defaults: AgentDefaults, access: EngineAccess
) -> dict[str, str]:
    """Return what the run's environment has beyond the inherited one; `chosen` is what its run config sets.

    Before 0.14 what the agent was given with -e wins over nearly everything, later only over what is not part of the
    protocol. What `populate_env_vars` of the agent's class has changed wins over both.
    """
    required = _required(defaults, access)
    if _is_old(flow_run.flow):
        env = merged(required, _required_of_old(), defaults.env_vars, chosen, defaults.own_variables)
        inherited = env.get("PYTHONPATH", defaults.python_path)
        env["PYTHONPATH"] = _joined([inherited, defaults.started_in, *defaults.absolute_import_paths])
    else:
        paths = [working_dir, defaults.python_path, *defaults.absolute_import_paths]
        of_old = {} if _is_new(flow_run.flow) else _required_of_old_task_runners()
        given = ({"PYTHONPATH": _joined(paths)}, defaults.env_vars, chosen)
        env = merged(of_old, *given, required, defaults.own_variables)
    # As requests calls it, with which Prefect's client is built.
    trusted = {"REQUESTS_CA_BUNDLE": access.authorities} if access.authorities else {}
    return {**trusted, **env, **_way_past_proxies(env, access), **_ours(flow_run)}


def _way_past_proxies(env: Mapping[str, str], access: EngineAccess) -> dict[str, str]:
    """Return NO_PROXY with the API's host, if the run would reach it by a proxy and the agent does not."""
    proxies = proxies_of({**os.environ, **env})
    if not access.never_by_proxy or proxies.proxy_for(access.endpoint) is None:
        return {}
    host = urlsplit(access.endpoint).hostname or ""
    return {proxies.exceptions_from or "NO_PROXY": ",".join([*proxies.exceptions, host])}


def _sends_logs(chosen: Variables, defaults: AgentDefaults) -> bool:
    """Whether the run's log is forwarded: a run, or the agent's -e, can say no; a yes cannot override a no."""
    given = merged(defaults.env_vars, chosen, defaults.own_variables)
    return not any(given.get(name, "").strip().lower() in _NO for name in _LOG_SWITCHES)


def _required(defaults: AgentDefaults, access: EngineAccess) -> dict[str, str]:
    env = {
        "PREFECT__BACKEND": defaults.api_flavour,
        "PREFECT__CLOUD__API": access.api,
        # Before 1.0 the engine posts to this address; its default is the one above with /graphql appended.
        "PREFECT__CLOUD__GRAPHQL": access.endpoint,
        "PREFECT__CLOUD__AGENT__LABELS": str(list(defaults.labels)),
        "PREFECT__CLOUD__USE_LOCAL_SECRETS": "false",
        **_FLOW_RUNNER,
    }
    if access.token:
        env["PREFECT__CLOUD__AUTH_TOKEN"] = env["PREFECT__CLOUD__API_KEY"] = access.token
        if access.tenant_id:
            env["PREFECT__CLOUD__TENANT_ID"] = access.tenant_id
    return env


def _required_of_old() -> dict[str, str]:
    return {"PREFECT__LOGGING__LEVEL": "DEBUG", **_required_of_old_task_runners()}


def _required_of_old_task_runners() -> dict[str, str]:
    # Not from 1.0 on: a flow that is run inside a task would use this runner there, and fail.
    return {"PREFECT__ENGINE__TASK_RUNNER__DEFAULT_CLASS": _ENGINE + "CloudTaskRunner"}


def _variables_of_0_13(view: AgentView) -> dict[str, str]:
    """Return what LocalAgent.populate_env_vars of Prefect 0.13 does."""
    required = _required(view.defaults, view.defaults.access) if view.defaults.access is not None else {}
    names = ("API", "AUTH_TOKEN", "AGENT__LABELS", "USE_LOCAL_SECRETS")
    cloud = {f"PREFECT__CLOUD__{name}": required.get(f"PREFECT__CLOUD__{name}") for name in names}
    return merged(
        cloud,
        _ids(view.flow_run),
        {_LOG_SWITCHES[0]: str(view.log_to_cloud).lower(), **_FLOW_RUNNER, **_required_of_old()},
        view.defaults.env_vars,
    )


def _variables_of_1(view: AgentView) -> dict[str, str]:
    """Return what LocalAgent.populate_env_vars of Prefect 1.x does when it has a run config."""
    defaults, switch = view.defaults, _LOG_SWITCHES[1]
    paths = [view.working_dir or defaults.started_in, defaults.python_path, *defaults.absolute_import_paths]
    given = merged(view.inherited, {"PYTHONPATH": _joined(paths)}, defaults.env_vars, view.chosen or {})
    if not view.log_to_cloud or switch not in given:
        given[switch] = str(view.log_to_cloud).lower()
    required = _required(defaults, defaults.access) if defaults.access is not None else {}
    return {**given, **required, **_ids(view.flow_run)}


def _ids(flow_run: FlowRun) -> dict[str, str]:
    return {"PREFECT__CONTEXT__FLOW_RUN_ID": flow_run.id, "PREFECT__CONTEXT__FLOW_ID": flow_run.flow.id}


def _ours(flow_run: FlowRun) -> dict[str, str]:
    return {
        **_ids(flow_run),
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
    """Whether the flow is of Prefect 1.0 or later, which is assumed when it does not say."""
    version = _release(flow)
    return version is None or version >= (1, 0)


def _release(flow: Flow) -> tuple[int, int] | None:
    match = _VERSION.match(flow.core_version or "")
    return (int(match[1]), int(match[2])) if match else None

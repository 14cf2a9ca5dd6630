"""From a flow run to what its runner is told: the contents of spec.json. Decides, writes nothing.

What Prefect's engine must find in its environment is prefect_environment's, which interpreter serves a run runtimes'.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.engines.prefect1_environment import EngineSettings, prefect_environment, sends_logs
from flowherd.engines.runtimes import RuntimeRule, first_serving, together
from flowherd.errors import UnsupportedStorage
from flowherd.values import FlowRun, Runtime, deciding_task_run
from flowherd_runner.contract import journal, variables
from flowherd_runner.contract.spec import AgentKeys, Limits, RunSpec, duration_s, is_positive_number

#: Names of variables whose values are not for a log.
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY|AUTH_STRING", re.IGNORECASE)
#: Named like a secret, and none: masking its value would take every "false" out of a log.
_NO_SECRETS = frozenset({"PREFECT__CLOUD__USE_LOCAL_SECRETS"})
_RUN_CONFIGS = frozenset({"LocalRun", "UniversalRun"})
#: What Prefect can store a flow in and no process of this host can run.
_UNSUPPORTED = frozenset({"Docker"})
#: What the backend of a work pool calls the storage of what it hands out.
_PREFECT_3 = "Prefect3"
#: What a deployment's code comes by.
_CODE = ("pull_steps", "path", "storage_document_id")


@dataclass(frozen=True, kw_only=True)
class AgentDefaults:
    """What the agent gives to every run whose flow sets nothing else."""

    env_vars: Mapping[str, str] = field(default_factory=dict)
    import_paths: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    #: For its own interpreter.
    preload: Sequence[str] = ()
    #: Other interpreters, and what they are for; the first that serves a run is taken.
    runtimes: Sequence[RuntimeRule] = ()
    #: For flows that Prefect's own engine runs; None where the backend has no API for one.
    engine: EngineSettings | None = None
    grace_s: float = 10.0
    max_line_bytes: int = journal.MAX_LINE_BYTES
    max_journal_bytes: int = journal.MAX_JOURNAL_BYTES


def plan(flow_run: FlowRun, defaults: AgentDefaults, claim: str) -> RunSpec:
    """Return the spec of one flow run.

    Raises UnsupportedStorage, which is a ValueError, when this agent cannot run what is stored so or is to run so.
    """
    kind, target = _kind_and_target(flow_run, defaults)
    config = _run_config(flow_run)
    runtime = _runtime(flow_run, kind, config, defaults)
    spec = outline(flow_run, claim)
    spec = spec._replace(
        kind=kind,
        target=target,
        parameters=dict(flow_run.parameters or {}),
        env={**defaults.env_vars, **_strings(config.get("env"))},
        working_dir=_expanded(config.get("working_dir")),
        import_paths=tuple(str(Path(path).expanduser().absolute()) for path in defaults.import_paths),
        user=config.get("user"),
        limits=_limits(config.get("limits"), defaults.limits),
        grace_s=duration_s(config.get("grace_s"), defaults.grace_s),
        max_line_bytes=defaults.max_line_bytes,
        max_journal_bytes=defaults.max_journal_bytes,
        agent=spec.agent._replace(interpreter=runtime.interpreter, preload=runtime.preload),
    )
    if (flow_run.flow.storage or {}).get("type") == _PREFECT_3:
        spec = _of_work_pool(spec, config)
    elif kind == variables.KIND_PREFECT:
        spec = _of_engine(spec, flow_run, config, defaults)
    secrets = {*_secrets(spec.env), *_strings_of(config.get("secret_env"))}
    return spec._replace(masked_env=tuple(sorted(secrets)))


def _of_engine(spec: RunSpec, flow_run: FlowRun, config: Mapping[str, Any], defaults: AgentDefaults) -> RunSpec:
    """Prefect's engine gets its parameters from the backend, and its import paths by PYTHONPATH."""
    if defaults.engine is None:
        raise UnsupportedStorage(f"{_unsupported(flow_run)}: this backend has no API that its engine could report to")
    working_dir = spec.working_dir or defaults.engine.working_dir
    chosen = _strings(config.get("env"))
    send_logs = sends_logs(chosen, defaults.engine)
    return spec._replace(
        parameters={},
        env=prefect_environment(flow_run, chosen, working_dir, defaults.engine),
        working_dir=working_dir,
        import_paths=(),
        agent=spec.agent._replace(has_engine=True, reports_start=False, send_logs=send_logs),
    )


def _of_work_pool(spec: RunSpec, config: Mapping[str, Any]) -> RunSpec:
    """The backend has composed the environment as Prefect's own worker does, and gives the engine its parameters.

    A command of the run's own is to bring Prefect's engine to life too, so its run counts as one of an engine.
    """
    show_output = config.get("stream_output") is not False
    agent = spec.agent._replace(has_engine=True, reports_start=True, show_output=show_output)
    return spec._replace(parameters={}, agent=agent)


def _secrets(env: Mapping[str, str]) -> list[str]:
    return sorted(name for name in env if _SECRET_NAME.search(name) and name not in _NO_SECRETS)


def outline(flow_run: FlowRun, claim: str) -> RunSpec:
    """Return what every spec holds, also that of a run that this agent cannot start."""
    deciding = deciding_task_run(flow_run)
    return RunSpec(
        flow_run_id=flow_run.id,
        flow_run_name=flow_run.name,
        flow_name=flow_run.flow.name,
        agent=AgentKeys(
            claim=claim,
            attempt=uuid.uuid4().hex[:12],
            claimed_via_task_run="" if deciding is None else deciding.id,
        ),
    )


def runtime_of(spec: RunSpec) -> Runtime:
    """Return which fork server starts the run, as an agent wrote it down, perhaps an earlier one.

    Raises UnsupportedStorage when that agent had found that it cannot start the run, or what it wrote is damaged.
    """
    if not spec.agent.attempt and not spec.kind:
        raise UnsupportedStorage("The description of the flow run on this host was damaged before it could be started.")
    if not spec.kind:
        raise UnsupportedStorage("Unsupported Storage type: this agent could not run it before it was restarted")
    return Runtime(_word("interpreter", spec.agent.interpreter), _modules(spec.agent.preload))


def _kind_and_target(flow_run: FlowRun, defaults: AgentDefaults) -> tuple[str, dict[str, Any]]:
    storage = flow_run.flow.storage or {}
    kind = storage.get("type")
    if kind == _PREFECT_3:
        return _of_prefect_3(flow_run, storage, defaults)
    if kind == "Command":
        argv = storage.get("argv")
        if isinstance(argv, list) and argv and all(isinstance(word, str) for word in argv):
            return variables.KIND_COMMAND, {"argv": argv}
        raise UnsupportedStorage("Command storage needs argv, a list of words, the program first")
    if kind == "Python":
        ref = storage.get("ref")
        if isinstance(ref, str) and ":" in ref:
            return variables.KIND_PYTHON, {"ref": ref}
        raise UnsupportedStorage("Python storage needs ref, as in module:function or path/to/file.py:function")
    if not isinstance(kind, str) or not kind or kind in _UNSUPPORTED:
        raise UnsupportedStorage(f"{_unsupported(flow_run)}: no process of this host can run it")
    core_version = flow_run.flow.core_version
    return variables.KIND_PREFECT, {"flow_run_id": flow_run.id, "core_version": core_version, "storage": kind}


def _of_prefect_3(flow_run: FlowRun, storage: Mapping[str, Any], defaults: AgentDefaults) -> tuple[str, dict[str, Any]]:
    """Prefect's engine, or a command in its place.

    The command's code is put where it is started, as Prefect's worker does, where a runtime has the Prefect for that.
    """
    if storage.get("refused"):
        raise UnsupportedStorage(str(storage["refused"]))
    command = _run_config(flow_run).get("command")
    known = storage.get("documents") or {}
    target = {
        "flow_run_id": flow_run.id,
        "entrypoint": storage.get("entrypoint"),
        **{name: known[name] for name in ("flow_run", "deployment") if name in known},
    }
    if command is None:
        return variables.KIND_PREFECT3, target
    try:
        argv = shlex.split(_word("command", command))
    except ValueError as error:
        raise UnsupportedStorage(f"The job variable command cannot be used: {error}: {command!r:.200}") from error
    if not argv:
        raise UnsupportedStorage("The job variable command has no word in it")
    rule = first_serving(flow_run, defaults.runtimes)
    if rule is not None and rule.has_prefect and any(storage.get(name) for name in _CODE):
        return variables.KIND_PREFECT3_COMMAND, {**target, "argv": argv}
    return variables.KIND_COMMAND, {"argv": argv}


def _unsupported(flow_run: FlowRun) -> str:
    return f"Unsupported Storage type: {(flow_run.flow.storage or {}).get('type')!r:.80}"


def _run_config(flow_run: FlowRun) -> Mapping[str, Any]:
    config = flow_run.run_config or flow_run.flow.run_config or {}
    if str(config.get("type", "LocalRun")) not in _RUN_CONFIGS:
        raise UnsupportedStorage(
            f"Unsupported run config type: {config.get('type')!r}; this agent runs LocalRun and UniversalRun"
        )
    return config


def _runtime(flow_run: FlowRun, kind: str, config: Mapping[str, Any], defaults: AgentDefaults) -> Runtime:
    """The interpreter that the run config names, else that of the first rule that serves the run, else the agent's own.

    Each has its own preloads: what one interpreter has, another may not have. A command needs no interpreter.
    """
    rule = first_serving(flow_run, defaults.runtimes) if kind != variables.KIND_COMMAND else None
    explicit = _expanded(config.get("interpreter"))
    preload: tuple[str, ...]
    if explicit is not None and explicit != sys.executable:
        interpreter, preload = _word("interpreter", explicit), ()
    elif explicit is None and rule is not None:
        interpreter, preload = rule.interpreter, rule.preload
    else:
        interpreter, preload = sys.executable, _modules(defaults.preload)
    chosen = config.get("preload")
    preload = preload if chosen is None else _modules(chosen)
    return Runtime(interpreter, together(variables.PRELOAD_OF_KIND.get(kind, ()), preload))


def _modules(names: object) -> tuple[str, ...]:
    if not isinstance(names, (list, tuple)):
        raise UnsupportedStorage(f"preload is a list of modules, not {names!r:.80}")
    return tuple(_word("preload", name) for name in names)


def _word(key: str, value: object) -> str:
    """A text that can be an argument of a program (execve(2))."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise UnsupportedStorage(f"{key} needs a text, not {value!r:.80}")
    return value


def _limits(chosen: object, defaults: Limits) -> Limits:
    own = chosen if isinstance(chosen, Mapping) else {}
    given = {name: own[name] for name in Limits._fields if own.get(name) is not None}
    for name, value in given.items():
        if not is_positive_number(value):  # not ignored: a run without its limit may take the whole host
            raise UnsupportedStorage(f"the limit {name} is no positive number: {value!r:.80}")
    return defaults._replace(**given)


def _strings(env: object) -> dict[str, str]:
    if not isinstance(env, Mapping):
        return {}
    return {str(name): str(value) for name, value in env.items() if value is not None}


def _strings_of(names: object) -> list[str]:
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []


def _expanded(path: object) -> str | None:
    return os.path.expanduser(path) if isinstance(path, str) and path else None  # noqa: PTH111 - "python3" is no path

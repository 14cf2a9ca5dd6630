"""From a flow run to its spec: what every run has, completed by its engine. Decides, writes nothing."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flowherd.engines import run_config
from flowherd.engines.base import AgentDefaults, Engine
from flowherd.engines.isolation_plan import kept_apart
from flowherd.engines.registry import engine_for
from flowherd.engines.runtimes import first_serving, is_here, together
from flowherd.engines.start_variables import start_variables
from flowherd.engines.token_of_run import with_own_token
from flowherd.engines.variables import Variables, check_variables, merged, removed, variables_by_name
from flowherd.errors import UnsupportedStorage
from flowherd.host.processes.interpreters import program_of
from flowherd.parameter_names import complaints
from flowherd.trace_context import TRACEPARENT, traceparent
from flowherd.values import FlowRun, Runtime, deciding_task_run
from flowherd_runner.contract.fields import SpecError
from flowherd_runner.contract.spec import AgentKeys, RunSpec, duration_s, parse_spec, spec_to_json
from flowherd_runner.contract.variables import KIND_COMMAND


def plan(
    flow_run: FlowRun, defaults: AgentDefaults, claim: str, chosen_config: Mapping[str, Any] | None = None
) -> RunSpec:
    """Return the spec of a flow run that was, or will be, claimed with the token `claim`.

    `chosen_config` replaces the run config of the run.

    Raises UnsupportedStorage, which is a ValueError, when this agent cannot run the flow in the configured way, and
    when no runner could be given what was configured.
    """
    engine = engine_for(flow_run.flow.storage or {})
    config = run_config.run_config_of(flow_run) if chosen_config is None else chosen_config
    outlined = outline(flow_run, claim)
    sources = (_trace(outlined, defaults), *_checked_variables(config, defaults))
    common = outlined._replace(
        kind_file=str(engine.kind_file) if engine.kind_file is not None else None,
        parameters=dict(flow_run.parameters or {}),
        env=merged(*sources),
        env_removed=removed(*sources),
        working_dir=run_config.expanded_path(config.get("working_dir")),
        import_paths=defaults.absolute_import_paths,
        user=config.get("user"),
        user_env=tuple(defaults.user_env),
        own_dir=_own_dir(outlined, config, defaults),
        limits=run_config.limits(config.get("limits"), defaults.limits),
        weights=run_config.weights(config.get("weights"), defaults.weights),
        grace_s=duration_s(config.get("grace_s"), defaults.grace_s),
        max_line_bytes=defaults.max_line_bytes,
        max_journal_bytes=defaults.max_journal_bytes,
        agent=outlined.agent._replace(has_engine=engine.reports_states, reports_start=engine.reports_start),
    )
    spec = engine.describe(common, flow_run, config, defaults)
    runtime = _runtime(flow_run, spec.kind, engine, config, defaults)
    is_command = spec.kind == KIND_COMMAND
    whole = spec._replace(
        # The runner finds those that are named like secrets itself; it knows all variables that the run inherits.
        masked_env=tuple(sorted(set(run_config.strings(config.get("secret_env"))))),
        mask=tuple(defaults.mask),
        unmask=tuple(defaults.unmask),
        secrets={**defaults.secrets, **run_config.strings_by_name(config.get("secrets"))},
        env_files=(*defaults.env_files, *run_config.strings(config.get("env_files"))),
        engine_parameters={} if spec.parameters else dict(flow_run.parameters or {}),
        runtime=_environment_of_command(flow_run, engine, config, defaults) if is_command else None,
        agent=spec.agent._replace(
            interpreter=runtime.interpreter,
            preload=runtime.preload,
            warnings=tuple(complaints(flow_run.parameters or {}, flow_run.flow.parameter_names)),
        ),
    )
    stored = engine.files_of(flow_run.flow.storage or {}) if spec.kind in engine.kinds else ()
    return _readable(with_own_token(kept_apart(whole, engine, config, defaults, stored), flow_run, defaults))


def _checked_variables(config: Mapping[str, Any], defaults: AgentDefaults) -> tuple[Variables, ...]:
    """Return the variables of the run by their source, the weakest first. Raises UnsupportedStorage."""
    sources: dict[str, Variables] = {
        "env_vars of the agent": defaults.env_vars,
        "env of its run config": variables_by_name(config.get("env")),
        "populate_env_vars": defaults.own_variables,
    }
    for source, variables in sources.items():
        check_variables(variables, source)
    return tuple(sources.values())


def _trace(spec: RunSpec, defaults: AgentDefaults) -> Variables:
    """Return the variable that tells the run's processes their trace, the weakest of all; none without traces."""
    return {TRACEPARENT: traceparent(spec.flow_run_id, spec.agent.attempt)} if defaults.traces else {}


def _readable(spec: RunSpec) -> RunSpec:
    """Return the spec, once it is known that a runner can read it: what it refuses would fail the run without a log."""
    try:
        parse_spec(json.loads(json.dumps(spec_to_json(spec))))
    except (SpecError, TypeError) as error:
        raise UnsupportedStorage(f"The flow run cannot be described to its runner: {error}") from error
    return spec


def _own_dir(spec: RunSpec, config: Mapping[str, Any], defaults: AgentDefaults) -> str | None:
    """Return where a run as another user has its working directory; None if it needs none, or has it as others have."""
    if not config.get("user") or config.get("working_dir") or not defaults.users_work_dir:
        return None
    return f"{defaults.users_work_dir}/{spec.flow_run_id}-{spec.agent.attempt}"


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
            claimed_version=flow_run.version,
            claimed_via_task_run="" if deciding is None else deciding.id,
            labels=tuple(flow_run.labels or ()),
        ),
    )


def runtime_of(spec: RunSpec, base_env: Mapping[str, str] = MappingProxyType({})) -> Runtime:
    """Return the fork server that is to start the run; the spec may be an earlier agent's.

    `base_env` is the environment of a fork server of no particular environment. A command is another program: it reads
    its variables itself, and needs no modules. What they take in memory would be copied for it, so it has none.

    Raises UnsupportedStorage when that agent found that it cannot start the run, or when what it wrote is damaged.
    """
    if not spec.agent.attempt and not spec.kind:
        raise UnsupportedStorage("The description of the flow run on this host was damaged before it could be started.")
    if not spec.kind:
        raise UnsupportedStorage("Unsupported Storage type: this agent could not run it before it was restarted")
    interpreter = run_config.argument("interpreter", spec.agent.interpreter)
    if spec.kind == KIND_COMMAND:
        return Runtime(interpreter)
    preload = run_config.modules(spec.agent.preload)
    return Runtime(interpreter, preload, start_variables(spec.env, base_env, bool(preload)))


def _runtime(
    flow_run: FlowRun, kind: str, engine: Engine, config: Mapping[str, Any], defaults: AgentDefaults
) -> Runtime:
    """The interpreter that the run config names, else that of the first rule that serves the run, else the agent's own.

    Each has its own preloads, because interpreters differ in what is installed. A command needs no interpreter, only
    the environment of one.
    """
    rule = first_serving(flow_run, defaults.runtimes) if kind != KIND_COMMAND else None
    explicit = run_config.expanded_path(config.get("interpreter"))
    preload: tuple[str, ...]
    if explicit is not None and explicit != sys.executable:
        interpreter, preload = run_config.argument("interpreter", explicit), ()
    elif explicit is None and rule is not None:
        interpreter, preload = rule.interpreter, rule.preload
    else:
        interpreter, preload = sys.executable, run_config.modules(defaults.preload)
    chosen = config.get("preload")
    preload = preload if chosen is None else run_config.modules(chosen)
    return Runtime(interpreter, together(engine.preload_for(kind), preload))


def _environment_of_command(
    flow_run: FlowRun, engine: Engine, config: Mapping[str, Any], defaults: AgentDefaults
) -> str | None:
    """The Python whose environment a command gets: that of the run config, else that of the first rule, else none.

    None leaves the agent's variables, so a plain command does not change its Python because flowherd has one of its
    own. A command in place of an engine's gets what the engine would have had.
    """
    explicit = run_config.expanded_path(config.get("interpreter"))
    if explicit is not None:
        return program_of(explicit)
    rule = first_serving(flow_run, defaults.runtimes)
    if rule is not None:
        return program_of(rule.interpreter)
    return sys.executable if engine.package is not None and is_here(engine.package) else None

"""spec.json, the description of one flow run: its one definition, writer and readers for both sides.

The agent writes it and syncs it to the disk before the claim. What the runner reads is at the top level:

    flow_run_id, flow_run_name, flow_name   str
    kind           str: see variables.py, or the name that `kind_file` gives to itself
    kind_file      str | null: the Python file that carries out a kind of another package
    target         object: what to run, in the shape that the kind defines
    parameters     object
    env            {name: str}: added to the fork server's environment, and stronger than it
    env_removed    [name]: variables of the fork server's environment that the run does not have. Runners of 0.1.0 do
                   not know it and keep them
    masked_env     [name]: variables that are secrets although they are not named like one; the values of all secrets
                   are replaced by *** before they reach the journal
    mask, unmask   [name]: variables and parameters that are masked whatever they are, and that are never masked;
                   names may contain * and ?
    secrets        {name: "file:PATH" or "env:VARIABLE"}: variables that the runner reads when the run starts
    env_files      [path]: files with more variables, read in the same way; `env` is stronger, `secrets` strongest
    engine_parameters   object: parameters that the flow's own engine reads from the backend; here only so that secrets
                   among them are masked
    working_dir    str | null: null is a fresh directory "work" inside the run directory
    import_paths   [str]: put before sys.path for Python callables, and before PYTHONPATH for commands
    runtime        str | null: for a command, the Python whose environment it gets (runtime_environment.py); null leaves
                   the agent's. Other kinds have that of the interpreter that carries them out. Runners of 0.1.0 leave
                   the agent's for all
    user           str | null: run as this user (only when the agent is root)
    user_env       [name]: for a run as another user, the variables of the fork server's environment that it inherits;
                   names may contain * and ?. Runners of 0.1.0 inherit all
    own_dir        str | null: where a run as another user gets its fresh directory if working_dir is null: the run
                   directory is closed to that user. The runner makes it, the agent removes it; an agent of 0.1.0 does
                   not know it and leaves it
    limits         {run_time_s?, open_files?, cpu_time_s?, memory_bytes?, processes?}: the runner enforces the first
                   three, the agent the others
    grace_s        float: seconds between asking the flow to end and killing it
    max_line_bytes, max_journal_bytes       int
    log_level      int | null: level of the root logger of Python code; null leaves it as it is in a script, and keeps
                   records from INFO on until the code configures logging. Runners of 0.1.0 take null for 20 (INFO)
    cgroup         str | null: directory of the run's own cgroup (v2), which the runner enters
    isolation      object: what keeps the run apart (isolation.py); without it nothing but its process tree
    weights        object: how much of the host it gets beside others (weights.py)

The object `agent` is the agent's own; no runner reads it:

    claim                  str: the token that the claim carries
    attempt, labels        str, [str]: distinguishes this start of the flow run from earlier ones; the run's labels
    claimed_version        int | null: version of the flow run's state that was claimed; agents of 0.1.0 wrote none
    claimed_via_task_run   str: id of the task run that carries the claim; empty when the flow run itself carries it
    interpreter, preload   str, [str]: the Python of the fork server, and the modules that it has imported
    has_engine             bool: the flow's own engine reports its states
    reports_start          bool: the agent reports where the process is, although an engine may report Running itself
    send_logs, show_output bool: the journal is forwarded to the backend; --show-flow-logs shows the output
    after_end              bool: a second start of the directory, for what the flow's engine wants to be done once the
                           first end was reported (after_end.json); the backend's state does not end it
    warnings               [str]: what was noticed when the run was planned; written into its log when it is started

Agents of release 0.1.0 wrote the keys of `agent` at the top level, some of them under other names, and named modules
to preload that have moved since; `_agent_object_of_0_1_0` and `current_module` translate. The contract version is still
1: a runner of 0.1.0 reads nothing that has moved, and never reads the file again after its start. An agent of 0.1.0,
after a downgrade, still adopts and watches such runs and makes their claim tokens again from its identity, while with
a higher version it could use nothing of the file. It only cannot start a run that was claimed and not started yet.
"""

import json
import math
import os
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from flowherd_runner.contract.fields import Fields, SpecError
from flowherd_runner.contract.files import MAX_SECONDS, SPEC_FILE, decode_content, read_content
from flowherd_runner.contract.isolation import IF_MISSING, LEVELS, NETWORKS, Isolation
from flowherd_runner.contract.journal import MAX_JOURNAL_BYTES, MAX_LINE_BYTES
from flowherd_runner.contract.variables import KIND_PREFECT
from flowherd_runner.contract.weights import Weights

DEFAULT_GRACE_S = 10.0
#: Room for notices and for one longest line; a smaller journal would be useless.
_LEAST_JOURNAL_BYTES = 16 * 1024

#: Modules of the child side that specs of 0.1.0 name, and what they are called now.
_MOVED_MODULES = {
    "flowherd_runner.prefect.warm": "flowherd_runner.kinds.prefect1.warm",
    "flowherd_runner.prefect3.warm": "flowherd_runner.kinds.prefect3.warm",
}


class RunLimits(NamedTuple):
    """What a run may use; None is unlimited."""

    run_time_s: Optional[float] = None
    open_files: Optional[int] = None
    cpu_time_s: Optional[int] = None
    memory_bytes: Optional[int] = None
    processes: Optional[int] = None


class AgentKeys(NamedTuple):
    """The agent's own keys; the module's docstring describes them."""

    claim: str = ""
    attempt: str = ""
    claimed_via_task_run: str = ""
    interpreter: str = ""
    preload: Tuple[str, ...] = ()
    has_engine: bool = False
    reports_start: bool = True
    send_logs: bool = True
    show_output: bool = True
    warnings: Tuple[str, ...] = ()
    after_end: bool = False
    claimed_version: Optional[int] = None
    labels: Tuple[str, ...] = ()


class RunSpec(NamedTuple):
    """One flow run as the agent describes it; the module's docstring describes the fields."""

    flow_run_id: str
    flow_run_name: str = ""
    flow_name: str = ""
    #: Empty when no kind could be chosen for the run, which then is only claimed and reported as failed.
    kind: str = ""
    kind_file: Optional[str] = None
    target: Mapping[str, Any] = {}
    parameters: Mapping[str, Any] = {}
    env: Mapping[str, str] = {}
    env_removed: Tuple[str, ...] = ()
    masked_env: Tuple[str, ...] = ()
    mask: Tuple[str, ...] = ()
    unmask: Tuple[str, ...] = ()
    secrets: Mapping[str, str] = {}
    env_files: Tuple[str, ...] = ()
    engine_parameters: Mapping[str, Any] = {}
    working_dir: Optional[str] = None
    import_paths: Tuple[str, ...] = ()
    runtime: Optional[str] = None
    user: Optional[str] = None
    user_env: Tuple[str, ...] = ("*",)
    own_dir: Optional[str] = None
    limits: RunLimits = RunLimits()
    grace_s: float = DEFAULT_GRACE_S
    max_line_bytes: int = MAX_LINE_BYTES
    max_journal_bytes: int = MAX_JOURNAL_BYTES
    log_level: Optional[int] = None
    cgroup: Optional[str] = None
    isolation: Isolation = Isolation()
    weights: Weights = Weights()
    agent: AgentKeys = AgentKeys()


def spec_content(directory: str) -> bytes:
    """Return the content of spec.json in `directory`. Raises SpecError when there is none, OSError."""
    data = read_content(os.path.join(directory, SPEC_FILE))
    if data is None:
        raise SpecError("there is no {} in {}".format(SPEC_FILE, directory))
    return data


def spec_of(content: bytes) -> RunSpec:
    """Return the spec in the content of a spec.json, without the agent's own keys. Raises SpecError if unusable."""
    try:
        value = decode_content(content, SPEC_FILE)
    except ValueError as error:
        raise SpecError(str(error)) from error
    return _parse(Fields(value, tolerant=False), AgentKeys())


def without_agent_keys(content: bytes) -> bytes:
    """Return the content of a spec.json without the object `agent`; content that cannot be used stays as it is."""
    try:
        value = decode_content(content, SPEC_FILE)
    except ValueError:
        return content
    return json.dumps({name: part for name, part in value.items() if name != "agent"}).encode()


def parse_spec(value: Mapping[str, Any]) -> RunSpec:
    """Return the spec that the JSON object `value` describes; unknown keys are ignored.

    Raises SpecError, which names the key, for a value that a runner would need and cannot use.
    """
    return _parse(Fields(value, tolerant=False), _parse_agent_keys(value))


def salvage_spec(value: Mapping[str, Any]) -> RunSpec:
    """Return what can be used of `value`, with defaults in place of damaged values.

    For an agent, which must look after the run in any case. Names are made sendable: see `_sendable`.
    """
    spec = _parse(Fields(value, tolerant=True), _parse_agent_keys(value))
    return spec._replace(flow_run_name=_sendable(spec.flow_run_name), flow_name=_sendable(spec.flow_name))


def spec_to_json(spec: RunSpec) -> Dict[str, Any]:
    """Return the JSON object of spec.json."""
    limits = {name: limit for name, limit in spec.limits._asdict().items() if limit is not None}
    weights = {name: weight for name, weight in spec.weights._asdict().items() if weight is not None}
    return dict(
        spec._asdict(),
        limits=limits,
        isolation=dict(spec.isolation._asdict()) if spec.isolation.wanted else {},
        weights=weights,
        agent=dict(spec.agent._asdict()),
    )


def current_module(name: str) -> str:
    """Return the present name of a module to preload that an agent of 0.1.0 may have named."""
    return _MOVED_MODULES.get(name, name)


def is_positive_number(value: object) -> bool:
    """Whether `value` can be a limit: a finite number above zero."""
    return _is_number(value) and value > 0  # type: ignore[operator]


def duration_s(value: object, default_s: float) -> float:
    """Return `value` as seconds if it is a duration that a clock can count, else the default."""
    usable = _is_number(value) and 0 <= value <= MAX_SECONDS  # type: ignore[operator]
    return float(value) if usable else default_s  # type: ignore[arg-type]


def _is_number(value: object) -> bool:
    # math.isfinite cannot take an int beyond the range of a float.
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _parse(fields: Fields, agent: AgentKeys) -> RunSpec:
    limits = fields.nested("limits")
    return RunSpec(
        flow_run_id=fields.required("flow_run_id", str, ""),
        flow_run_name=fields.value("flow_run_name", str, ""),
        flow_name=fields.value("flow_name", str, ""),
        kind=fields.required("kind", str, ""),
        kind_file=fields.value("kind_file", str, None),
        target=fields.required("target", dict, {}),
        parameters=fields.value("parameters", dict, {}),
        env=fields.strings_by_name("env"),
        env_removed=fields.strings("env_removed"),
        masked_env=fields.strings("masked_env"),
        mask=fields.strings("mask"),
        unmask=fields.strings("unmask"),
        secrets=fields.strings_by_name("secrets"),
        env_files=fields.strings("env_files"),
        engine_parameters=fields.value("engine_parameters", dict, {}),
        working_dir=fields.value("working_dir", str, None),
        import_paths=fields.strings("import_paths"),
        runtime=fields.value("runtime", str, None),
        user=fields.value("user", str, None),
        user_env=fields.strings("user_env") if "user_env" in fields.source else ("*",),
        own_dir=fields.value("own_dir", str, None),
        limits=RunLimits(
            run_time_s=limits.seconds("run_time_s", None),
            open_files=limits.whole("open_files", None),
            cpu_time_s=limits.whole("cpu_time_s", None),
            memory_bytes=_agents_limit(limits.source, "memory_bytes"),
            processes=_agents_limit(limits.source, "processes"),
        ),
        grace_s=fields.seconds("grace_s", DEFAULT_GRACE_S),
        max_line_bytes=max(1, min(MAX_LINE_BYTES, fields.whole("max_line_bytes", MAX_LINE_BYTES))),
        max_journal_bytes=max(_LEAST_JOURNAL_BYTES, fields.whole("max_journal_bytes", MAX_JOURNAL_BYTES)),
        log_level=fields.whole("log_level", None),
        cgroup=fields.value("cgroup", str, None),
        isolation=_isolation(fields.nested("isolation")),
        weights=_weights(fields.nested("weights")),
        agent=agent,
    )


def _isolation(fields: Fields) -> Isolation:
    return Isolation(
        level=fields.one_of("level", LEVELS),
        network=fields.one_of("network", NETWORKS),
        if_missing=fields.one_of("if_missing", IF_MISSING),
        write=fields.strings("write"),
        hide=fields.strings("hide"),
        covered=fields.strings("covered"),
        keep=fields.strings("keep"),
        floor=fields.one_of("floor", LEVELS),
        own=fields.strings("own"),
    )


def _weights(fields: Fields) -> Weights:
    cpu = fields.source.get("cpu")
    return Weights(
        cpu=float(cpu) if is_positive_number(cpu) else None,  # type: ignore[arg-type]
        nice=fields.value("nice", int, None),
        io=fields.value("io", str, None),
        oom_score_adj=fields.value("oom_score_adj", int, None),
    )


def _agents_limit(limits: Mapping[str, Any], name: str) -> Any:
    """Read a limit that the agent enforces; a damaged one limits nothing, also for a runner, which does not use it."""
    return limits[name] if is_positive_number(limits.get(name)) else None


def _parse_agent_keys(value: Mapping[str, Any]) -> AgentKeys:
    """Read the agent's own keys; a damaged one gets its default, also for a runner, which does not use them."""
    given = value.get("agent")
    fields = Fields(given if isinstance(given, dict) else _agent_object_of_0_1_0(value), tolerant=True)
    has_engine = fields.value("has_engine", bool, False)
    return AgentKeys(
        claim=_sendable(fields.value("claim", str, "")),
        attempt=_sendable(fields.value("attempt", str, "")),
        claimed_version=fields.whole("claimed_version", None),
        claimed_via_task_run=_sendable(fields.value("claimed_via_task_run", str, "")),
        interpreter=fields.value("interpreter", str, ""),
        preload=tuple(map(current_module, fields.strings("preload"))),
        has_engine=has_engine,
        reports_start=fields.value("reports_start", bool, not has_engine),
        send_logs=fields.value("send_logs", bool, True),
        show_output=fields.value("show_output", bool, True),
        after_end=fields.value("after_end", bool, False),
        warnings=tuple(map(_sendable, fields.strings("warnings"))),
        labels=fields.strings("labels"),
    )


def _agent_object_of_0_1_0(value: Mapping[str, Any]) -> Dict[str, Any]:
    """The `agent` object of a spec that was written before there was one."""
    same = ("claim", "attempt", "interpreter", "preload", "send_logs", "show_output")
    return dict(
        {name: value.get(name) for name in same},
        claimed_via_task_run=value.get("taken_through"),
        has_engine=value.get("kind") == KIND_PREFECT or value.get("has_engine"),
        reports_start=value.get("tells_start"),
    )


def _sendable(text: str) -> str:
    """`text` as it can be shown and sent: JSON can hold halves of characters (lone surrogates), UTF-8 cannot."""
    return text.encode("utf-8", "backslashreplace").decode()

"""The shape of an engine: everything in which one kind of flow run differs from another, in one value.

Engines know flow runs and specs; they start nothing. An engine that reports the states of its runs itself needs no rule
of its own for the end: final_report.py says what the agent adds when such an engine has not reported the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowherd.engines.runtimes import EnginePackage, RuntimeRule
from flowherd.engines.sealed_results import ResultsPlace
from flowherd.engines.variables import Variables, merged
from flowherd.values import EngineAccess, FlowRun, StateReport
from flowherd_runner.contract import journal
from flowherd_runner.contract.isolation import Isolation
from flowherd_runner.contract.spec import DEFAULT_GRACE_S, RunLimits, RunSpec
from flowherd_runner.contract.weights import Weights


@dataclass(frozen=True, kw_only=True)
class AgentDefaults:
    """What the agent gives to every run whose flow does not choose otherwise, and what engines must know of it."""

    #: Variables of every run; None removes one that the run would inherit.
    env_vars: Variables = field(default_factory=dict)
    #: Variables that the agent's class chooses for this one run: they win over all others, and None removes one.
    own_variables: Variables = field(default_factory=dict)
    import_paths: Sequence[str] = ()
    limits: RunLimits = field(default_factory=RunLimits)
    weights: Weights = field(default_factory=Weights)
    #: Modules that the fork server of the agent's own interpreter imports.
    preload: Sequence[str] = ()
    #: Other interpreters, and the runs that they serve; the first that serves a run is taken.
    runtimes: Sequence[RuntimeRule] = ()
    #: Names of the agent's own variables that runs as another user inherit; * and ? stand for any characters.
    user_env: Sequence[str] = ()
    #: Directory for the working directories of runs as another user; empty for none.
    users_work_dir: str = ""
    #: Names that are masked in the runs' output whatever they are, and names that never are.
    mask: Sequence[str] = ()
    unmask: Sequence[str] = ()
    #: Where each run's secrets are read from, by name: "file:PATH" or "env:VARIABLE".
    secrets: Mapping[str, str] = field(default_factory=dict)
    #: Files with variables for every run.
    env_files: Sequence[str] = ()
    grace_s: float = DEFAULT_GRACE_S
    max_line_bytes: int = journal.MAX_LINE_BYTES
    max_journal_bytes: int = journal.MAX_JOURNAL_BYTES
    #: How an engine reaches the backend's API; None when the backend has none for engines.
    access: EngineAccess | None = None
    #: Dialect of that API: "server" or "cloud".
    api_flavour: str = "server"
    #: The agent's labels.
    labels: Sequence[str] = ()
    #: Settings of the engine that files of its own set on this host, as variables; weaker than `env_vars`.
    engine_variables: Mapping[str, str] = field(default_factory=dict)
    #: Whether the engine's own settings on this host send logs to the API; a run's environment can say otherwise.
    logging_to_api: bool = True
    #: Directory in which the agent was started.
    started_in: str = "/"
    #: PYTHONPATH in the agent's environment; empty when it is not set.
    python_path: str = ""
    #: Whether the run's processes are told the span that theirs belong to (trace_context.py).
    traces: bool = False
    #: What keeps every run apart at least, and what of this host no such run sees.
    isolation: Isolation = field(default_factory=Isolation)

    @property
    def absolute_import_paths(self) -> tuple[str, ...]:
        """`import_paths`, with `~` expanded."""
        return tuple(str(Path(path).expanduser().absolute()) for path in self.import_paths)


@dataclass(frozen=True, kw_only=True)
class AgentView:
    """What `populate_env_vars` of an agent knows of one run: a method of the published class, made to be extended.

    Without a run config it returns what the agent adds to its environment, as its oldest callers expect; with one the
    whole environment of the run, as later ones do.
    """

    flow_run: FlowRun
    defaults: AgentDefaults
    log_to_cloud: bool = True
    #: The environment variables of the run config; None without a run config.
    chosen: Variables | None = None
    working_dir: str | None = None
    #: What runs inherit of the agent's environment.
    inherited: Mapping[str, str] = field(default_factory=dict)

    def plain_variables(self) -> dict[str, str]:
        """Return the variables of a run whose engine needs none itself."""
        if self.chosen is None:
            return merged(self.defaults.env_vars)
        return merged(self.inherited, self.defaults.env_vars, self.chosen)


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine: which flow runs are its own, and how they are carried out."""

    #: The name by which a backend says which engine carries out the runs that it hands out.
    name: str
    #: Whether a flow with this storage is carried out by this engine.
    recognises: Callable[[Mapping[str, Any]], bool]
    #: Completes the spec of a run: kind and target, and what differs from the defaults that the spec has already.
    #: Called with the spec, the flow run, its run config and the agent's defaults; raises UnsupportedStorage.
    describe: Callable[[RunSpec, FlowRun, Mapping[str, Any], AgentDefaults], RunSpec]
    #: Kinds of run on the child side that `describe` chooses and no other engine does.
    kinds: frozenset[str]
    #: The file that carries out these kinds in the run's process, handed over by path, so that nothing needs to be
    #: installed there (runners/flowherd_runner/kinds/__init__.py); None for the kinds that come with flowherd.
    kind_file: Path | None = None
    #: The flow's own engine reports its states; the agent reports only an end that the engine could not report.
    reports_states: bool = False
    #: The agent reports where the process is, also when the engine reports Running.
    reports_start: bool = True
    #: The spec of a second start, once the end of a run was reported that its engine did not report; None for none.
    #: Called with the run's spec, the report, whether the process was killed, and what the process left to be done
    #: (after_end.json).
    after_end: Callable[[RunSpec, StateReport, bool, Collection[str]], RunSpec | None] | None = None
    #: What an interpreter must have installed to carry out these kinds; None when any Python will do.
    package: EnginePackage | None = None
    #: Where it keeps results for lack of another place; None if it keeps none.
    results: ResultsPlace | None = None
    #: The files of this host in which a storage keeps its flow.
    files_of: Callable[[Mapping[str, Any]], Collection[str]] = lambda storage: ()
    #: What an agent's `populate_env_vars` returns for such runs; see AgentView.
    variables: Callable[[AgentView], dict[str, str]] = lambda view: view.plain_variables()

    def preload_for(self, kind: str) -> tuple[str, ...]:
        """Return the modules that the fork server for runs of this kind must have imported."""
        return self.package.preload if self.package is not None and kind in self.kinds else ()


def unsupported_storage(storage: Mapping[str, Any]) -> str:
    """Return the beginning of the message about a storage that this agent cannot run."""
    return f"Unsupported Storage type: {storage.get('type')!r:.80}"

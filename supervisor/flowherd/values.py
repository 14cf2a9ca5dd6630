"""The things that agent, backends and command line hand to one another: frozen, without behaviour of their own.

Times are aware datetimes in UTC. Nothing here knows a dialect, a process or a file.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flowherd.states import CLAIMABLE, RunState


class _Readable:
    """Fields by attribute and, as the original's query results allowed, by key."""

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self, key)
        except AttributeError:
            raise KeyError(key) from None


@dataclass(frozen=True, kw_only=True)
class Flow(_Readable):
    """What a flow run is a run of."""

    id: str
    name: str
    version: int | None = None
    #: Where the code is, as the dialect describes it: {"type": ..., ...}.
    storage: Mapping[str, Any] = field(default_factory=dict)
    #: How to run it: {"type": ..., "env": ..., "working_dir": ..., ...}; None means all defaults.
    run_config: Mapping[str, Any] | None = None
    #: The older dialect's counterpart of run_config.
    environment: Mapping[str, Any] | None = None
    #: The version of Prefect that registered it, where one did and the server tells.
    core_version: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskRun(_Readable):
    """A task run that waits for its flow run to be started again."""

    id: str
    task_id: str
    version: int
    serialized_state: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FlowRun(_Readable):
    """A flow run that the backend handed out."""

    id: str
    name: str
    #: The version of its state, for the claim's version lock.
    version: int
    state: RunState
    serialized_state: Mapping[str, Any]
    flow: Flow
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: Set on this run; wins over the flow's.
    run_config: Mapping[str, Any] | None = None
    scheduled_start_time: datetime | None = None
    #: What an agent must carry to take it.
    labels: tuple[str, ...] = ()
    #: Those that wait and are due; only such a run may be handed out while it is Running.
    task_runs: tuple[TaskRun, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """What a fork server is: an interpreter, and the modules that it has imported before it forks."""

    interpreter: str = sys.executable
    preload: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StateReport:
    """A change of a flow run's state, as the agent tells it to the backend."""

    flow_run_id: str
    state: RunState
    message: str
    #: When it happened, which is not when it is told.
    at: datetime
    #: The version that the backend must still hold; None means do not check.
    version: int | None = None
    #: The token that says who reports; see docs/design.md, section 4.
    claim: str | None = None
    #: Of the flow process.
    pid: int | None = None
    #: Cause and its grade, in the words of flowherd_runner.contract.reasons; None before the end.
    reason: str | None = None
    grade: str | None = None
    #: How the process ended, of a flow run whose own engine reports its states: what is told follows from both.
    of_process: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredState:
    """The state of a flow run as the backend holds it."""

    flow_run_id: str
    version: int
    state: RunState
    message: str | None = None
    #: The token of the claim or report that led to it, when it came from a flowherd agent.
    claim: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunAtBackend:
    """How a flow run stands at the backend together with its task runs."""

    state: RunState
    #: What its task runs are in that wait for another start of the flow run.
    waiting: frozenset[RunState] = frozenset()


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line for a flow run's log at the backend."""

    flow_run_id: str
    at: datetime
    #: "stdout", "stderr", "log" or "flowherd".
    stream: str
    #: A logging level number.
    level: int
    logger: str
    message: str
    #: Names the line within its run for ever, so that a resent one is recognised; None where it cannot.
    line_id: str | None = None
    task_run_id: str | None = None
    #: Where a subflow has logged it: the flow run that it belongs to at a backend where subflows have their own.
    subflow_run_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class EngineAccess:
    """How a flow's own engine reaches the backend: with the agent's own address and token."""

    #: The API's address as it was given.
    api: str
    #: Where its operations are posted to.
    endpoint: str
    token: str = field(default="", repr=False)
    tenant_id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wake:
    """What the backend told a waiting agent: there is work, or some of its runs are to be ended."""

    #: Counts what there was to tell; handed back with the next wait.
    sequence: int
    #: Whether there may be runs to be started, and such as are to be ended.
    work: bool = True
    ends: bool = True


@dataclass(frozen=True, kw_only=True)
class AgentIdentity:
    """Who an agent is to its backend."""

    type: str
    name: str
    labels: tuple[str, ...]


def waiting_task_runs(flow_run: FlowRun) -> tuple[TaskRun, ...]:
    """Those of its due task runs that an agent may take, by id."""
    waiting = (task_run for task_run in flow_run.task_runs if task_run.serialized_state.get("type") in CLAIMABLE)
    return tuple(sorted(waiting, key=lambda task_run: task_run.id))


def deciding_task_run(flow_run: FlowRun) -> TaskRun | None:
    """The task run through which this flow run is taken; None for one that is taken by its own state."""
    return None if flow_run.state in CLAIMABLE else next(iter(waiting_task_runs(flow_run)), None)


def claim_token(identity: str, flow_run_id: str) -> str:
    """Return what the claim of an agent carries, so that it is recognised when read back."""
    return f"{identity}/{flow_run_id}"


def subflow_mark(flow_run_id: str) -> str:
    """What marks a line as a subflow's where the lines of one run are shown together."""
    return f"[subflow {flow_run_id[:8]}]"


def checked_id(flow_run_id: str) -> str:
    """`flow_run_id` when it is a UUID in its usual form. Raises ValueError otherwise: ids become paths."""
    if str(uuid.UUID(flow_run_id)) != flow_run_id:
        raise ValueError(f"no flow run id in the usual form: {flow_run_id!r}")
    return flow_run_id

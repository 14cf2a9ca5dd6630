"""The values that agent, backends and command line pass to one another: frozen dataclasses without behaviour.

The flow run is none of them: subclasses of agents read and change it as a dict too (flow_run.py).

All times are aware datetimes in UTC.
"""

from __future__ import annotations

import contextlib
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from flowherd.flow_run import Flow as Flow
from flowherd.flow_run import FlowRun as FlowRun
from flowherd.flow_run import TaskRun as TaskRun
from flowherd.states import CLAIMABLE, RunState

if TYPE_CHECKING:
    from flowherd.story.live_news import LiveNews


@dataclass(frozen=True)
class Runtime:
    """What distinguishes fork servers: the interpreter, the modules imported before the fork, and its environment."""

    interpreter: str = sys.executable
    preload: tuple[str, ...] = ()
    #: Variables that differ from the agent's environment and are read when a process starts: names and values, sorted.
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class StateReport:
    """A change of a flow run's state, as the agent reports it to the backend."""

    flow_run_id: str
    state: RunState
    message: str
    #: When the change happened; the report may be sent later.
    at: datetime
    #: State version that the backend must still hold; None means do not check.
    version: int | None = None
    #: Token that identifies the reporting agent; see docs/design.md, section 4.
    claim: str | None = None
    #: Pid of the flow process.
    pid: int | None = None
    #: Cause of the end and its grade, from flowherd_runner.contract.reasons; None before the end.
    reason: str | None = None
    grade: str | None = None
    #: When the run went on, seconds since the epoch, as its runner wrote it down (`phases` of exit.json).
    phases: tuple[tuple[str, float], ...] = ()
    #: What the run has used and how its process ended (`known_figures`).
    figures: tuple[tuple[str, float], ...] = ()
    #: What else its end carries (story/account.py), as JSON; None for nothing, and before the end.
    account: Mapping[str, Any] | None = None
    #: The run's own engine reports its states, and this only says how the process ended; the backend combines both.
    of_process: bool = False


@dataclass(frozen=True, kw_only=True)
class StoredState:
    """The state of a flow run as stored at the backend."""

    flow_run_id: str
    version: int
    state: RunState
    message: str | None = None
    #: Token of the claim or report that led to this state; None if it did not come from a flowherd agent.
    claim: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of a flow run, for the holder of `token`."""

    flow_run: FlowRun
    token: str


@dataclass(frozen=True, kw_only=True)
class RunAtBackend:
    """The states of a flow run and of its waiting task runs at the backend."""

    state: RunState
    #: States of the task runs that wait for another start of the flow run.
    waiting: frozenset[RunState] = frozenset()
    #: Version of the run's state; None where states have none.
    version: int | None = None


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One line of a flow run's log at the backend."""

    flow_run_id: str
    at: datetime
    #: "stdout", "stderr", "log" or "flowherd".
    stream: str
    #: Numeric logging level.
    level: int
    logger: str
    message: str
    #: Permanent id of the line within its run, by which a resent line is recognised; None if it has none.
    line_id: str | None = None
    task_run_id: str | None = None
    #: Flow run of the subflow that logged the line, at a backend where subflows have flow runs of their own.
    subflow_run_id: str | None = None
    #: What else the engine sends with the record, in JSON's types; None for nothing.
    info: Mapping[str, Any] | None = None
    #: Text so far of an unfinished line; the next text so far, or the next line, of the same stream replaces it.
    so_far: bool = False
    #: Whether text so far has stood so long that backends which take only whole lines get it as a line of its own.
    standing: bool = False


class JournalPiece(NamedTuple):
    """Whole records of a run's journal, for a backend that takes bytes."""

    flow_run_id: str
    #: Token of the attempt, which is in front of the offset in the ids of its lines; empty if it has none.
    attempt: str
    #: Where it begins in the journal, bytes.
    offset: int
    data: bytes
    #: Whether the backend has acknowledged all that comes before it, so that a record begins here for certain.
    is_certain: bool
    #: Number of lines in it.
    lines: int = 0

    @property
    def end(self) -> int:
        """Where it ends in the journal, bytes."""
        return self.offset + len(self.data)


@dataclass(frozen=True, kw_only=True)
class EngineAccess:
    """How a flow's own engine reaches the backend: with the agent's address, and its token or one of the run's own."""

    #: Address of the API as configured.
    api: str
    #: URL that operations are posted to.
    endpoint: str
    token: str = field(default="", repr=False)
    tenant_id: str | None = None
    #: File or directory with the certificate authorities that the agent trusts; empty for the usual ones.
    authorities: str = ""
    #: Whether the API is reached without the proxies of the environment, as the embedded server always is.
    never_by_proxy: bool = False
    #: Whether the server takes tokens of single runs, made from `token` (run_token.py).
    takes_run_tokens: bool = False


@dataclass(frozen=True, kw_only=True)
class Wake:
    """The answer to an agent that waits for news: there is work, or some of its runs must be ended."""

    #: Position in the sequence of news; handed back with the next wait.
    sequence: int
    #: Whether there may be runs to start, and runs to end.
    work: bool = True
    ends: bool = True
    #: Flow runs that the backend offers to this agent, as `SharingBackend.offered_runs` returns them; None if news of
    #: this backend never names any.
    offered: tuple[FlowRun, ...] | None = None
    #: What else the backend asks of the agent.
    live: LiveNews | None = None


@dataclass(frozen=True, kw_only=True)
class AgentIdentity:
    """How an agent introduces itself to its backend."""

    type: str
    name: str
    labels: tuple[str, ...]
    #: Id of the agent's configuration at the backend; None for none.
    config_id: str | None = None


def waiting_task_runs(flow_run: FlowRun) -> tuple[TaskRun, ...]:
    """Return the due task runs that an agent may claim, sorted by id."""
    waiting = (task_run for task_run in flow_run.task_runs if task_run.serialized_state.get("type") in CLAIMABLE)
    return tuple(sorted(waiting, key=lambda task_run: task_run.id))


def deciding_task_run(flow_run: FlowRun) -> TaskRun | None:
    """Return the task run through which this flow run is claimed; None if it is claimed by its own state."""
    return None if flow_run.state in CLAIMABLE else next(iter(waiting_task_runs(flow_run)), None)


def claim_token(identity: str, flow_run_id: str) -> str:
    """Return the token of an agent's claim, by which the agent recognises the claim when it reads it back."""
    return f"{identity}/{flow_run_id}"


def subflow_mark(flow_run_id: str) -> str:
    """Return the mark of a subflow's line, for views that show all lines of a run together."""
    return f"[subflow {flow_run_id[:8]}]"


def checked_id(flow_run_id: str) -> str:
    """Return `flow_run_id`. Raises ValueError if it is not a UUID in canonical form, because ids become paths."""
    with contextlib.suppress(ValueError):
        if str(uuid.UUID(flow_run_id)) == flow_run_id:
            return flow_run_id
    raise ValueError(f"not a flow run id in canonical form: {flow_run_id!r}")

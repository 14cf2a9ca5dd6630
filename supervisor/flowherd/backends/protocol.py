"""The backend as an agent sees it. Implementations translate to a dialect and back, and do nothing else.

Every method raises BackendUnavailable when the same call may succeed later, BackendRefused (or one of its
subclasses) when it will not. Retrying, spooling and back-off are the caller's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from flowherd.values import AgentIdentity, EngineAccess, FlowRun, LogLine, RunAtBackend, StateReport, StoredState, Wake


@dataclass(frozen=True, kw_only=True)
class ServerCapabilities:
    """What the server at the other end can do beyond the dialect's common ground."""

    #: What to call it in messages.
    name: str
    #: A claim is checked against the run's version, so an accepted claim is a won one; else it must be read back.
    arbitrates: bool = False
    #: A log line sent twice under the same id is stored once.
    knows_line_ids: bool = False
    #: `wait_for_wake` works.
    wakes: bool = False
    #: The version of its engine; empty where it does not matter to the runs.
    engine_version: str = ""


class Backend(Protocol):
    """One agent's connection to one backend. Methods may be called from several threads at once."""

    #: Where it is, for messages.
    address: str
    #: Name of the engine (engines/registry.py) that carries out most of the runs that it hands out.
    engine: str

    def connect(self) -> ServerCapabilities:
        """Say hello and learn what the server can do."""
        ...

    def check_token(self) -> None:
        """Raises NotAuthorized unless the token is there and has the scope RUNNER."""
        ...

    def register(self, identity: AgentIdentity) -> str:
        """Make the agent known and return its id, which all later calls carry."""
        ...

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """Flow runs that are due for an agent with these labels, without those in `exclude`. Reserves nothing."""
        ...

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Take `flow_run` for the holder of `token`: Scheduled -> Submitted, and its waiting task runs too.

        One that is Running keeps its state and is taken through its waiting task runs, of which the first decides
        (values.deciding_task_run).

        Raises ClaimLost when somebody else has it. After BackendUnavailable it may or may not have been taken:
        `stored_states`, or `stored_task_states`, tells whose token is there. Claiming again with the same token is a
        success.
        """
        ...

    def report(self, report: StateReport) -> None:
        """Tell the backend of a change of state. Telling the same again does no harm."""
        ...

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Append to the logs of flow runs, of several at once if need be."""
        ...

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Say that these runs are alive."""
        ...

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """What the backend holds for these runs; an unknown id is left out."""
        ...

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Make sure of a claim that the backend holds for `token` and whose answer nobody here has seen.

        Raises ClaimLost when it came too late, over what another agent has made of the run; that stands again then.
        """
        ...

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """The same of task runs, by their ids."""
        ...

    def standing(self, flow_run_id: str) -> RunAtBackend | None:
        """What the backend holds for this run and for its waiting task runs; None for an unknown id."""
        ...

    def engine_access(self) -> EngineAccess | None:
        """How a flow's own engine reports to this backend, once `connect` has returned; None where none can."""
        ...

    def engine_variables(self) -> Mapping[str, str]:
        """Variables that the environment of every run has that an engine runs, known before the first one."""
        ...

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Wait until the backend has something for this agent that it had not at `seen`, or the time is over.

        Only for servers whose traits say `wakes`.
        """
        ...

    def close(self) -> None:
        """Give back sockets; a call under way in another thread fails."""
        ...

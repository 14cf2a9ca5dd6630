"""What an agent needs from a backend: the methods that every backend has, and what only some servers can do.

An implementation translates between flowherd's values and its server's API, and does nothing else. Retries, spooling
and back-off are the caller's work.

Every method that contacts the server raises BackendUnavailable if the same call may succeed later, and BackendRefused
or one of its subclasses if it will not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from flowherd.story.live_news import LiveNews
from flowherd.values import (
    AgentIdentity,
    Claim,
    EngineAccess,
    FlowRun,
    JournalPiece,
    LogLine,
    RunAtBackend,
    StateReport,
    StoredState,
    Wake,
)


@dataclass(frozen=True, kw_only=True)
class ServerCapabilities:
    """What one server can do beyond what every backend must."""

    #: Name and version of the server, for messages.
    name: str
    #: Whether the server checks a claim against the run's version, so that an accepted claim is won. If not, the agent
    #: has to read the claim back.
    arbitrates: bool = False
    #: Whether `wait_for_wake` works.
    wakes: bool = False
    #: Whether `write_logs` takes text so far, of which the server keeps the latest of each run and stream. If not, it
    #: is given whole lines only.
    keeps_text_so_far: bool = False
    #: Whether the server offers each due run to one agent at a time and takes many claims at once: the backend is a
    #: `SharingBackend`.
    shares: bool = False
    #: Whether the backend has `offered_runs` without sharing: it then reads no more runs than the agent has room for.
    asks_by_room: bool = False
    #: Whether log lines and the states that follow them are stored in one step: the backend is a `DeliveringBackend`.
    delivers_together: bool = False
    #: Whether the server keeps what agents report of themselves: the backend is a `ReportingBackend`.
    keeps_agent_reports: bool = False
    #: Whether the server keeps the account of an end, also of one that it knows already (StateReport.account).
    keeps_accounts: bool = False
    #: Version of the server's own flow engine; empty if its runs do not depend on it.
    engine_version: str = ""


@dataclass(frozen=True, kw_only=True)
class UnfinishedRuns:
    """What a backend holds of the runs that were asked for."""

    #: How many of the runs it knows, finished or not.
    known: int
    #: States of those that have not ended, by run id.
    states: Mapping[str, StoredState]


@runtime_checkable
class VersionedBackend(Protocol):
    """What a backend has beside `Backend` if the version of a run grows with each of its states.

    By the version the agent tells an older state of a run, as a restored copy of the server's data holds it, from one
    that the run was put into later.
    """

    @property
    def server_instance(self) -> str:
        """Another text after each start of the server; empty if the server does not say so."""
        ...

    @property
    def server_restored(self) -> bool:
        """Whether the server knows that its data is an older copy of what it had before its last start."""
        ...

    def unfinished_runs(self, flow_run_ids: Collection[str]) -> UnfinishedRuns:
        """Return which of these runs have not ended at the backend."""
        ...

    def report_together(self, reports: Sequence[StateReport]) -> None:
        """Report changes of states in one request, in this order; if one is refused, none may be stored."""
        ...


class Backend(Protocol):
    """One agent's connection to one backend. Methods may be called from several threads at once."""

    #: Address of the server, for messages and for the lock that keeps two agents of this host from claiming at once.
    address: str
    #: Name of the engine (engines/registry.py) that carries out most of the runs that it hands out.
    engine: str

    def connect(self) -> ServerCapabilities:
        """Make the first contact and find out what the server can do."""
        ...

    def check_token(self) -> None:
        """Raise NotAuthorized unless there is a token and it has the scope RUNNER."""
        ...

    def register(self, identity: AgentIdentity) -> str:
        """Register the agent and return its id; all later calls of this object carry it."""
        ...

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """Return flow runs that are due for an agent with these labels, except those in `exclude`. Reserves nothing."""
        ...

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Claim `flow_run` for the holder of `token`: Scheduled -> Submitted, and its waiting task runs too.

        A run that is Running keeps its state and is claimed through its waiting task runs; the first of them decides
        who has it (values.deciding_task_run). Claiming again with the same token succeeds.

        Raises ClaimLost if another agent has it. After BackendUnavailable the claim may or may not have been carried
        out; `stored_states`, or `stored_task_states`, returns whose token the server holds.
        """
        ...

    def report(self, report: StateReport) -> None:
        """Report a change of state. Reporting the same change again does no harm."""
        ...

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Append lines to the logs of one or more flow runs."""
        ...

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Report that these runs are alive."""
        ...

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return the state that the backend holds for each of these runs; unknown ids are left out."""
        ...

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Confirm a claim that the backend holds for `token` and whose answer was lost.

        Raises ClaimLost if the claim was stored after another agent had already taken the run; the run has then been
        given back the state that the other agent left it in.
        """
        ...

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return the state that the backend holds for each of these task runs; unknown ids are left out."""
        ...

    def run_at_backend(self, flow_run_id: str) -> RunAtBackend | None:
        """Return what the backend holds for this run and for its waiting task runs; None for an unknown id."""
        ...

    def engine_access(self) -> EngineAccess | None:
        """Return how a flow's own engine reports to this backend; None if none can. Call `connect` first."""
        ...

    def engine_variables(self) -> Mapping[str, str]:
        """Return the environment variables that every run with an engine has, as far as known before the first run."""
        ...

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Wait until the backend has news for this agent since `seen`, or until `timeout_s` has passed.

        Only for servers whose capabilities include `wakes`.
        """
        ...

    def close(self) -> None:
        """Close connections; a call in progress in another thread fails."""
        ...


@runtime_checkable
class JournalBackend(Protocol):
    """What a backend has beside `Backend` if its server may take the bytes of journals."""

    @property
    def followed_runs(self) -> frozenset[str]:
        """Ids of flow runs, of any agent, whose lines somebody waits for; empty if that is not known."""
        ...

    def write_journals(
        self, requests: Iterable[Sequence[JournalPiece]], stored: Callable[[Sequence[int]], None]
    ) -> bool:
        """Store pieces of journals, those of one request in one step, and send some requests ahead of the answers.

        `stored` is called for each request, in order, with where the server has the whole records of its pieces.
        Returns False if the server takes no bytes now, so that lines have to be sent. Raises BackendRefused for the
        first request that was not stored; later ones may have been.
        """
        ...


class SharingBackend(Backend, Protocol):
    """A backend whose server shares the due runs out among its agents. Needed only if the capabilities say `shares`."""

    def offered_runs(self, labels: Sequence[str], exclude: Collection[str], room: int | None) -> list[FlowRun]:
        """Return due flow runs as `ready_runs` does, but at most `room`, and none that other agents should claim now.

        With a `room` of 0 the agent takes no runs for the present, and what it was offered is for others at once. None
        means that it has room for any number.
        """
        ...

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        """Claim the flow runs as `claim` does, in one request.

        Returns for each flow run's id why the claim is lost, or None if it is won. The same claims again have the same
        answers. After BackendUnavailable all of them or none were carried out.
        """
        ...


@runtime_checkable
class ReportingBackend(Protocol):
    """What a backend has beside `Backend` if its server keeps what agents report of themselves."""

    def report_agent(self, report: Mapping[str, Any]) -> None:
        """Send this report, JSON, along with the next request for flow runs, in place of one that was not sent yet."""
        ...


@runtime_checkable
class LiveBackend(Protocol):
    """What a backend has beside `ReportingBackend` if its server asks for reports while somebody watches there."""

    def send_report(self, report: Mapping[str, Any]) -> LiveNews:
        """Send this report, JSON, now. Returns what the server asks of the agent then."""
        ...


class DeliveringBackend(Backend, Protocol):
    """A backend that takes log lines and states together. Needed only if the capabilities say `delivers_together`."""

    def deliver(self, lines: Sequence[LogLine], reports: Sequence[StateReport]) -> None:
        """Append the lines to the logs, then report the states, in this order; no state is stored before the lines.

        If one of the reports is refused, none is stored. The same call again does no harm.
        """
        ...

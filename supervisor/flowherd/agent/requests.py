"""The backend's operations as the agent's parts make them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, cast

from flowherd.backends.protocol import (
    Backend,
    DeliveringBackend,
    JournalBackend,
    LiveBackend,
    SharingBackend,
    UnfinishedRuns,
    VersionedBackend,
)
from flowherd.story.live_news import LiveNews
from flowherd.values import Claim, FlowRun, JournalPiece, LogLine, RunAtBackend, StateReport, StoredState, Wake

Answer = TypeVar("Answer")


class Contact(Protocol):
    """What makes the requests (connection.py)."""

    @property
    def backend(self) -> Backend:
        """The backend itself."""

    def make(self, request: Callable[[Backend], Answer], *, urgent: bool) -> Answer:
        """Make one request."""


class Requests:
    """The backend's operations, each made through the agent's contact with it; docs are in `Backend`.

    While the backend has asked for a pause, each raises BackendUnavailable without sending anything, except when made
    as `urgent`. After a refused token each raises NotAuthorized without sending anything.
    """

    def __init__(self, contact: Contact, *, urgent: bool) -> None:
        self._contact = contact
        self._urgent = urgent

    def _make(self, request: Callable[[Backend], Answer]) -> Answer:
        return self._contact.make(request, urgent=self._urgent)

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """Fetch the flow runs that are due."""
        return self._make(lambda backend: backend.ready_runs(labels, exclude))

    def offered_runs(self, labels: Sequence[str], exclude: Collection[str], room: int | None) -> list[FlowRun]:
        """Fetch the due flow runs that are offered to this agent."""
        return self._make(lambda backend: cast(SharingBackend, backend).offered_runs(labels, exclude, room))

    def claim_many(self, claims: Sequence[Claim]) -> dict[str, str | None]:
        """Claim flow runs in one request."""
        return self._make(lambda backend: cast(SharingBackend, backend).claim_many(claims))

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Claim a flow run."""
        self._make(lambda backend: backend.claim(flow_run, token))

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Make sure of a claim whose answer was lost."""
        self._make(lambda backend: backend.confirm_claim(flow_run_id, token))

    def report(self, report: StateReport) -> None:
        """Report a change of state."""
        self._make(lambda backend: backend.report(report))

    def report_together(self, reports: Sequence[StateReport]) -> None:
        """Report changes of states in one request, at a `VersionedBackend`."""
        self._make(lambda backend: _versioned(backend).report_together(reports))

    def unfinished_runs(self, flow_run_ids: Collection[str]) -> UnfinishedRuns:
        """Fetch the states of those runs that have not ended, at a `VersionedBackend`."""
        return self._make(lambda backend: _versioned(backend).unfinished_runs(flow_run_ids))

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Append lines to the logs of flow runs."""
        self._make(lambda backend: backend.write_logs(lines))

    def deliver(self, lines: Sequence[LogLine], reports: Sequence[StateReport]) -> None:
        """Append lines to logs and report the states that follow them, at a `DeliveringBackend`."""
        self._make(lambda backend: cast(DeliveringBackend, backend).deliver(lines, reports))

    @property
    def followed_runs(self) -> frozenset[str]:
        """Ids of flow runs whose lines somebody waits for. Sends nothing."""
        backend = self._contact.backend
        return backend.followed_runs if isinstance(backend, JournalBackend) else frozenset()

    def write_journals(
        self, requests: Iterable[Sequence[JournalPiece]], stored: Callable[[Sequence[int]], None]
    ) -> bool:
        """Store pieces of journals at a `JournalBackend`; return False if the backend takes none."""

        def write(backend: Backend) -> bool:
            return isinstance(backend, JournalBackend) and backend.write_journals(requests, stored)

        return self._make(write)

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Report that these runs are alive."""
        self._make(lambda backend: backend.heartbeat(flow_run_ids))

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Fetch the states of flow runs."""
        return self._make(lambda backend: backend.stored_states(flow_run_ids))

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Fetch the states of task runs."""
        return self._make(lambda backend: backend.stored_task_states(task_run_ids))

    def run_at_backend(self, flow_run_id: str) -> RunAtBackend | None:
        """Fetch a flow run's state together with those of its waiting task runs."""
        return self._make(lambda backend: backend.run_at_backend(flow_run_id))

    def send_report(self, report: Mapping[str, Any]) -> LiveNews:
        """Send what the agent reports of itself now, at a `LiveBackend`; otherwise nothing is sent."""

        def send(backend: Backend) -> LiveNews:
            return backend.send_report(report) if isinstance(backend, LiveBackend) else LiveNews()

        return self._make(send)

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Wait until the backend has something for this agent."""
        return self._make(lambda backend: backend.wait_for_wake(seen, timeout_s))


def _versioned(backend: Backend) -> VersionedBackend:
    assert isinstance(backend, VersionedBackend), "only such a backend is asked"
    return backend

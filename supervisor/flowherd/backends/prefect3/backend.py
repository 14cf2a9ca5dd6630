"""The agent's backend over a Prefect 3 server: it is a worker of one process work pool."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from loguru import logger

from flowherd.backends import json_values
from flowherd.backends.decoding import UnreadableRuns, decoding
from flowherd.backends.prefect3.build_flow_run import (
    DeploymentCache,
    DeploymentGone,
    FlowNameCache,
    FlowRunBuilder,
    access_variables,
)
from flowherd.backends.prefect3.claim_tokens import ClaimTokens
from flowherd.backends.prefect3.claiming import DUE_WITHIN_S, RunClaimer
from flowherd.backends.prefect3.events import WakeEvents
from flowherd.backends.prefect3.orchestration import Orchestration
from flowherd.backends.prefect3.pool import MAX_RUNS, WorkPool, soonest
from flowherd.backends.prefect3.reporting import StateReporter
from flowherd.backends.prefect3.run_row import RunRow, run_row, transition_id
from flowherd.backends.prefect3.sent_claims import SentClaims
from flowherd.backends.prefect3.slot_waits import SlotWaits
from flowherd.backends.prefect3.state_types import CANCELLING, CRASHED, PENDING, run_state
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.backends.prefect3.write_logs import LogWriter
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config.urls import without_user
from flowherd.errors import BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized
from flowherd.states import RunState
from flowherd.values import (
    AgentIdentity,
    EngineAccess,
    FlowRun,
    LogLine,
    RunAtBackend,
    StateReport,
    StoredState,
    Wake,
)


class Prefect3Backend:
    """One worker's connection to one work pool.

    An empty `worker_name` means AGENT@HOST. Runs are listed `prefetch_s` before they are due, so that they can be
    claimed on time. Claims under way are noted in `state_dir`, so that the next agent there knows of them.
    """

    engine = "prefect3"

    def __init__(
        self,
        transport: Prefect3Transport,
        pool: WorkPool,
        *,
        worker_name: str = "",
        prefetch_s: float = 10.0,
        state_dir: Path | None = None,
    ) -> None:
        self.address = without_user(transport.address)
        self._transport = transport
        self._pool = pool
        self._worker_name = worker_name or f"flowherd@{socket.gethostname()}"
        #: Whether the settings name the worker; else `register` does.
        self._is_named = bool(worker_name)
        self._prefetch_s = prefetch_s
        self._claim_tokens = ClaimTokens()
        self._orchestration = Orchestration(transport)
        self._slot_waits = SlotWaits()
        sent = SentClaims(state_dir, self.address)
        self._claimer = RunClaimer(transport, self._orchestration, self._claim_tokens, sent, self._slot_waits)
        self._reporter = StateReporter(transport, self._orchestration, self._claim_tokens, pool)
        self._log_writer = LogWriter(transport)
        self._flow_names = FlowNameCache(transport)
        self._deployments = DeploymentCache(transport)
        self._wake_events = WakeEvents(transport, lambda: self._pool.facts.id, lambda: self._pool.facts.limited)
        #: Version of the server. Runtimes are chosen by it, because the server does not return with which Prefect a
        #: flow was deployed.
        self._server_version = ""
        self._unreadable = UnreadableRuns()

    def connect(self) -> ServerCapabilities:
        """Check the server's version; create the pool and its queues if they are missing."""
        with decoding("the version", self.address):
            version = json_values.text(self._transport.get("/admin/version"))
        if not version.startswith("3."):
            raise BackendRefused(f"{self.address} is Prefect {version:.40}; flowherd needs Prefect 3 for work pools")
        self._server_version = version
        with decoding("the work pool", self.address):
            self._pool.refresh()
        name = f"Prefect {version:.40}, work pool {self._pool.name}"
        return ServerCapabilities(name=name, arbitrates=True, wakes=True, engine_version=version)

    def check_token(self) -> None:
        """Raise NotAuthorized if the server does not accept the credentials. Prefect 3 has no scopes."""
        with decoding("the work pool", self.address):
            self._pool.refresh()

    def register(self, identity: AgentIdentity) -> str:
        """Send the first heartbeat, which registers the worker by its name, its only id. Labels are not sent."""
        if not self._is_named:
            self._worker_name = f"{identity.name}@{socket.gethostname()}"
        self._pool.send_heartbeat(self._worker_name)
        return self._worker_name

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """Return due runs of the pool's queues, by queue priority; labels are ignored. Also sends heartbeats."""
        with decoding("the scheduled runs", self.address):
            self._pool.beat(self._worker_name)
            self._claimer.undo_late_claims()
            rows = self._due_rows(exclude)
            return self._flow_runs(rows) if rows else []

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Propose Scheduled -> Pending; the transition id carries the token."""
        with decoding("the claim", self.address):
            documents = flow_run.flow.storage.get("documents") or {}
            document = documents.get("flow_run")
            planned = None if document is None else run_row(document)
            if self._claimer.claim(flow_run.id, token, self._worker_name, planned):
                self._log_writer.begin(flow_run.id)

    def report(self, report: StateReport) -> None:
        """Report an end that the run's engine could not report; for Running only where its process is."""
        with decoding("the state", self.address):
            self._reporter.send(report, self._worker_name)

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Write raw output under the loggers flowherd.stdout and flowherd.stderr, records under their own."""
        self._log_writer.write(lines)

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Do nothing: in Prefect 3 the engine of each run sends its own events, and workers send none for runs."""

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return the stored states of these runs; a claim of ours without an answer is settled first."""
        stored: dict[str, StoredState] = {}
        ids = sorted(flow_run_ids)
        for start in range(0, len(ids), MAX_RUNS):
            query = {"flow_runs": {"id": {"any_": ids[start : start + MAX_RUNS]}}, "limit": MAX_RUNS}
            answer = self._transport.post("/flow_runs/filter", query)
            with decoding("the states", self.address):
                for row in map(run_row, json_values.mappings_not_null(answer)):
                    if row.id in flow_run_ids:
                        stored[row.id] = self._stored(row)
        return stored

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Check the run's history, because the server accepts a claim of a run that has ended."""
        with decoding("the claim", self.address):
            self._claimer.confirm(flow_run_id, token)

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """Return nothing: task runs of Prefect 3 are never handed out."""
        return {}

    def run_at_backend(self, flow_run_id: str) -> RunAtBackend | None:
        """Return the run's state; Cancelling if its engine forced Crashed over Cancelling while it was ending.

        Task runs of Prefect 3 never wait for another start of their flow run.
        """
        with decoding("the run's state", self.address):
            try:
                row = self._orchestration.read(flow_run_id)
            except BackendRefused as error:
                if error.code == "404":
                    return None
                raise
            if row.state_type == CRASHED and self._was_being_cancelled(row):
                return RunAtBackend(state=RunState.CANCELLING)
            return RunAtBackend(state=run_state(row))

    def engine_access(self) -> EngineAccess | None:
        """Return None: the environment of each run contains what its engine needs."""
        return None

    def engine_variables(self) -> Mapping[str, str]:
        """Return address and credentials: a Prefect imported with them is ready for runs that do not replace them."""
        return access_variables(self._transport)

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Wait for an event of the pool's runs, or until a known run becomes due."""
        with decoding("the work pool", self.address):
            return self._wake_events.wait(seen, timeout_s)

    def close(self) -> None:
        """Close this thread's connection and the stream of events."""
        self._wake_events.close()
        self._transport.close()

    def _due_rows(self, exclude: Collection[str]) -> list[RunRow]:
        """Return the runs that are due now; the next wake is set for those that are due soon."""
        now = self._transport.server_now()
        listed = self._list(now + timedelta(seconds=self._prefetch_s))
        due, later = _by_time(listed, now)
        if later and (self._pool.facts.limited or len(listed) >= MAX_RUNS):
            # The server fills its limits by priority first: a run that is not due yet may have displaced a due one.
            due, _ = _by_time(self._list(now + timedelta(seconds=DUE_WITHIN_S)), now)
        wanted = [row for row in due if row.id not in exclude]
        paced, pause_s = self._slot_waits.paced(wanted, len(listed))
        waits = [soonest([row.due_at for row in later], now), pause_s]
        self._wake_events.expect(min((wait for wait in waits if wait is not None), default=None))
        return paced

    def _list(self, before: datetime) -> list[RunRow]:
        """Return the runs that start before that time, without those whose rows cannot be read."""
        sent_s = time.monotonic()
        try:
            listed = self._pool.scheduled_runs(before)
        except BackendRefused as error:
            if error.code == "404":  # the pool or a queue was deleted; the next poll creates it again
                self._pool.forget()
                raise BackendUnavailable(f"the work pool {self._pool.name!r} is gone: {error}") from error
            raise
        rows = [row for value in listed if (row := self._readable_row(value)) is not None]
        self._claimer.note_poll(sent_s, rows)
        return rows

    def _flow_runs(self, rows: Sequence[RunRow]) -> list[FlowRun]:
        """Return the runs with all that their start needs; cancel those whose deployment is gone."""
        builder = FlowRunBuilder(
            self._transport, self._pool, self._worker_name, self._flow_names, self._deployments, self._server_version
        )
        built = []
        for row in rows:
            try:
                built.append(builder.flow_run(row))
            except DeploymentGone as error:
                logger.warning("Cancelling flow run {}: {}", row.id, error)
                with contextlib.suppress(ClaimLost):
                    self._reporter.cancel_without_deployment(row, str(error))
            except NotAuthorized:
                raise
            except (*json_values.DECODING_ERRORS, BackendRefused) as error:
                self._unreadable.leave_out(row.id, error)
        return built

    def _was_being_cancelled(self, row: RunRow) -> bool:
        states = self._orchestration.history(row.id)
        return len(states) > 1 and states[-2].get("type") == CANCELLING

    def _stored(self, row: RunRow) -> StoredState:
        if not self._claimer.settle(row.id):
            row = self._orchestration.read(row.id)
        return StoredState(
            flow_run_id=row.id,
            version=row.run_count,
            state=run_state(row),
            message=row.message,
            claim=self._claim_tokens.token(self._claim_transition_id(row), row.id),
        )

    def _claim_transition_id(self, row: RunRow) -> UUID | None:
        """Return the transition id of the run's claim, also if the run was cancelled between claim and start."""
        if row.state_type == PENDING:
            return row.transition_id
        if row.state_type != CANCELLING:
            return None
        before = [state for state in self._orchestration.history(row.id) if state.get("type") != CANCELLING]
        if not before or before[-1].get("type") != PENDING:
            return None
        return transition_id(before[-1])

    def _readable_row(self, value: Any) -> RunRow | None:
        """Return the row of one run; if it cannot be read, leave the run out and return None."""
        try:
            row = run_row(value)
            run_state(row)
        except json_values.DECODING_ERRORS as error:
            self._unreadable.leave_out(value, error)
            return None
        return row


def _by_time(rows: Sequence[RunRow], now: datetime) -> tuple[list[RunRow], list[RunRow]]:
    """Divide runs into those that are due and those that are due later, keeping their order."""
    latest = now + timedelta(seconds=DUE_WITHIN_S)
    due = [row for row in rows if row.due_at is None or row.due_at <= latest]
    return due, [row for row in rows if row.due_at is not None and row.due_at > latest]

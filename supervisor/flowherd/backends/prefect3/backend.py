"""`Backend` over Prefect 3: a worker of one process work pool. Puts together what the modules beside it do."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from loguru import logger

from flowherd.backends import json_values
from flowherd.backends.prefect3.claim_tokens import ClaimTokens
from flowherd.backends.prefect3.claiming import DUE_WITHIN_S, Claims
from flowherd.backends.prefect3.events import Wakes
from flowherd.backends.prefect3.flow_runs import (
    DeploymentGone,
    Deployments,
    Descriptions,
    FlowNames,
    access_variables,
)
from flowherd.backends.prefect3.log_requests import RunLogs
from flowherd.backends.prefect3.orchestration import Orchestration
from flowherd.backends.prefect3.pool import MOST_RUNS, WorkPool, soonest
from flowherd.backends.prefect3.reporting import Reports
from flowherd.backends.prefect3.rows import RunRow, objects, run_row, uuid_or_none
from flowherd.backends.prefect3.states import CANCELLING, CRASHED, PENDING, run_state
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.backends.protocol import ServerCapabilities
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

#: Words about runs that cannot be read, each once.
_MOST_TOLD = 1000


class Prefect3Backend:
    """One worker's connection to one work pool.

    `worker_name` empty is AGENT@HOST. Runs are looked for `prefetch_s` before they are due, so that they can be
    claimed on time.
    """

    engine = "prefect3"

    def __init__(
        self, transport: Prefect3Transport, pool: WorkPool, *, worker_name: str = "", prefetch_s: float = 10.0
    ) -> None:
        self.address = transport.address
        self._transport = transport
        self._pool = pool
        self._worker_name = worker_name or f"flowherd@{socket.gethostname()}"
        self._named = bool(worker_name)
        self._prefetch_s = prefetch_s
        self._tokens = ClaimTokens()
        self._orchestration = Orchestration(transport)
        self._claims = Claims(transport, self._orchestration, self._tokens)
        self._reports = Reports(transport, self._orchestration, self._tokens, pool)
        self._logs = RunLogs(transport)
        self._flow_names = FlowNames(transport)
        self._deployments = Deployments(transport)
        self._wakes = Wakes(transport, lambda: self._pool.facts.id, lambda: self._pool.facts.limited)
        #: By which runtimes are chosen, for the server does not tell which Prefect a flow was made with.
        self._server_version = ""
        #: Ids of runs that were left out and told of.
        self._told: set[str] = set()

    def connect(self) -> ServerCapabilities:
        """Say hello, and make the pool and its queues where they are missing."""
        with self._decoding("its version"):
            version = json_values.text(self._transport.get("/admin/version"))
        if not version.startswith("3."):
            raise BackendRefused(f"{self.address} is Prefect {version:.40}; work pools are served of Prefect 3 only")
        self._server_version = version
        with self._decoding("the work pool"):
            self._pool.refresh()
        name = f"Prefect {version:.40}, work pool {self._pool.name}"
        return ServerCapabilities(name=name, arbitrates=True, wakes=True, engine_version=version)

    def check_token(self) -> None:
        """Raises NotAuthorized when the server does not accept the credentials. Prefect 3 has no scopes."""
        with self._decoding("the work pool"):
            self._pool.refresh()

    def register(self, identity: AgentIdentity) -> str:
        """The first heartbeat makes the worker known, by its name, which is its id too. Labels are not Prefect 3's."""
        if not self._named:
            self._worker_name = f"{identity.name}@{socket.gethostname()}"
        self._pool.send_heartbeat(self._worker_name)
        return self._worker_name

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        """Runs of the pool's queues that are due, by queue priority; labels play no part. A sign of life, too."""
        with self._decoding("the scheduled runs"):
            self._pool.beat(self._worker_name)
            self._claims.look_after_adrift()
            rows = self._due_rows(exclude)
            return self._described(rows) if rows else []

    def claim(self, flow_run: FlowRun, token: str) -> None:
        """Scheduled -> Pending; the transition id carries the token."""
        with self._decoding("the claim"):
            document = ((flow_run.flow.storage or {}).get("documents") or {}).get("flow_run")
            described = None if document is None else run_row(document)
            if self._claims.claim(flow_run.id, token, self._worker_name, described):
                self._logs.begin(flow_run.id)

    def report(self, report: StateReport) -> None:
        """An end that the run's engine could not tell; for Running, only where its process is."""
        with self._decoding("the state"):
            self._reports.tell(report, self._worker_name)

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        """Raw output under the loggers flowherd.stdout and flowherd.stderr, records under their own."""
        self._logs.write(lines)

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        """Prefect 3 has none that a worker sends for its runs: the engine of each run sends events of its own."""

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        """What the server holds for these runs."""
        stored: dict[str, StoredState] = {}
        ids = sorted(flow_run_ids)
        for start in range(0, len(ids), MOST_RUNS):
            asked = {"flow_runs": {"id": {"any_": ids[start : start + MOST_RUNS]}}, "limit": MOST_RUNS}
            answer = self._transport.post("/flow_runs/filter", asked)
            with self._decoding("the states"):
                for row in map(run_row, objects(answer)):
                    if row.id in flow_run_ids:
                        stored[row.id] = self._stored(row)
        return stored

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """The run's history tells: the server lets a claim follow upon an end."""
        with self._decoding("the claim"):
            self._claims.confirm(flow_run_id, token)

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        """None: task runs of Prefect 3 are never handed out."""
        return {}

    def standing(self, flow_run_id: str) -> RunAtBackend | None:
        """The run's state; Cancelling too where its dying engine has forced Crashed over that.

        Task runs of Prefect 3 never wait for another start of their flow run.
        """
        with self._decoding("the run's state"):
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
        """None: what an engine of Prefect 3 needs is in the environment of each run that is handed out."""
        return None

    def engine_variables(self) -> Mapping[str, str]:
        """Address and credentials: unless a run's job variables replace them, its Prefect is ready as imported."""
        return access_variables(self._transport)

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        """Wait for an event of the pool's runs, or until a run that is known becomes due."""
        with self._decoding("the work pool"):
            return self._wakes.wait(seen, timeout_s)

    def close(self) -> None:
        """Close this thread's connection and the stream of events."""
        self._wakes.close()
        self._transport.close()

    # -- inside

    def _due_rows(self, exclude: Collection[str]) -> list[RunRow]:
        """What is due now; what will be soon is remembered for the next wake."""
        now = self._transport.server_now()
        listed = self._listed(now + timedelta(seconds=self._prefetch_s))
        due, later = _by_time(listed, now)
        if later and (self._pool.facts.limited or len(listed) >= MOST_RUNS):
            # Places are given by priority first: a run that is not due yet may have taken that of one that is.
            due, _ = _by_time(self._listed(now + timedelta(seconds=DUE_WITHIN_S)), now)
        self._wakes.expect(soonest([row.due_at for row in later], now))
        return [row for row in due if row.id not in exclude]

    def _listed(self, before: datetime) -> list[RunRow]:
        asked_s = time.monotonic()
        try:
            listed = self._pool.scheduled_runs(before)
        except BackendRefused as error:
            if error.code == "404":  # the pool or a queue was deleted; the next look makes it again
                self._pool.forget()
                raise BackendUnavailable(f"the work pool is gone: {error}") from error
            raise
        rows = [row for value in listed if (row := self._usable(value)) is not None]
        self._claims.note_poll(asked_s, rows)
        return rows

    def _described(self, rows: Sequence[RunRow]) -> list[FlowRun]:
        descriptions = Descriptions(
            self._transport, self._pool, self._worker_name, self._flow_names, self._deployments, self._server_version
        )
        found = []
        for row in rows:
            try:
                found.append(descriptions.flow_run(row))
            except DeploymentGone as error:
                logger.warning("Cancelling flow run {}: {}", row.id, error)
                with contextlib.suppress(ClaimLost):
                    self._reports.cancel_without_deployment(row, str(error))
            except NotAuthorized:
                raise
            except (*json_values.NOT_THE_DIALECT, BackendRefused) as error:
                self._leave_out(row.id, error)
        return found

    def _was_being_cancelled(self, row: RunRow) -> bool:
        states = self._orchestration.history(row.id)
        return len(states) > 1 and states[-2].get("type") == CANCELLING

    def _stored(self, row: RunRow) -> StoredState:
        if not self._claims.settle(row.id):
            row = self._orchestration.read(row.id)
        return StoredState(
            flow_run_id=row.id,
            version=row.run_count,
            state=run_state(row),
            message=row.message,
            claim=self._tokens.token(self._claims_transition(row), row.id),
        )

    def _claims_transition(self, row: RunRow) -> UUID | None:
        """The transition id of the claim that a run still stands by, also where it was cancelled before its start."""
        if row.state_type == PENDING:
            return row.transition_id
        if row.state_type != CANCELLING:
            return None
        before = [state for state in self._orchestration.history(row.id) if state.get("type") != CANCELLING]
        if not before or before[-1].get("type") != PENDING:
            return None
        return uuid_or_none(json_values.mapping(before[-1].get("state_details") or {}).get("transition_id"))

    def _usable(self, value: Any) -> RunRow | None:
        """One run's part of an answer; None, and a word about it once, when it cannot be read."""
        try:
            row = run_row(value)
            run_state(row)
        except json_values.NOT_THE_DIALECT as error:
            self._leave_out(f"{value.get('id') if isinstance(value, dict) else value!r}"[:80], error)
            return None
        return row

    def _leave_out(self, about: str, error: Exception) -> None:
        """One bad run must not keep all others from being started."""
        if about not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(about)
            logger.warning("Left out flow run {}, its description cannot be understood: {!r:.200}", about, error)

    @contextlib.contextmanager
    def _decoding(self, what: str) -> Iterator[None]:
        """What comes from outside may have any shape; one that is not the API's is as good as no answer."""
        try:
            yield
        except json_values.NOT_THE_DIALECT as error:
            raise BackendUnavailable(f"cannot understand {what} that {self.address} sent: {error!r:.200}") from error


def _by_time(rows: Sequence[RunRow], now: datetime) -> tuple[list[RunRow], list[RunRow]]:
    """Those that are due, and those that will be; both in their order."""
    latest = now + timedelta(seconds=DUE_WITHIN_S)
    due = [row for row in rows if row.due_at is None or row.due_at <= latest]
    return due, [row for row in rows if row.due_at is not None and row.due_at > latest]

"""A backend in this process's memory: for trying out an agent without a server, and the shortest implementation.

Arbitrates claims and stores a log line with the same id once, as the embedded server does. Nothing is kept on disk.
"""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from flowherd.backends.protocol import ServerCapabilities
from flowherd.errors import BackendRefused, ClaimLost, IllegalTransition
from flowherd.parameter_names import parameter_names
from flowherd.states import CLAIMABLE, EVENT_OF_REPORT, FINISHED, Event, RunState, after
from flowherd.values import (
    AgentIdentity,
    EngineAccess,
    Flow,
    FlowRun,
    LogLine,
    RunAtBackend,
    StateReport,
    StoredState,
    Wake,
)


class MemoryBackend:
    """`Backend` over dictionaries, with a few methods that stand in for what a user does at a server."""

    address = "memory"
    engine = "plain"

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._sequence = 0
        self._runs: dict[str, FlowRun] = {}
        self._labels: dict[str, frozenset[str]] = {}
        self._claims: dict[str, str | None] = {}
        self._messages: dict[str, str] = {}
        self._line_ids: set[tuple[str, str]] = set()
        #: Accepted reports, oldest first.
        self.history: list[StateReport] = []
        #: Log lines of all runs, in order of arrival.
        self.lines: list[LogLine] = []
        #: Time of the last heartbeat of each run.
        self.heartbeats: dict[str, datetime] = {}

    # -- what a user does at a server

    def add_run(
        self,
        storage: Mapping[str, Any],
        *,
        labels: Collection[str] = (),
        run_config: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        name: str = "run",
        run_id: str | None = None,
    ) -> str:
        """Queue a flow run that is due now and return its id, a new one unless given."""
        run_id = run_id or str(uuid.uuid4())
        with self._lock:
            self._labels[run_id] = frozenset(labels)
            self._runs[run_id] = FlowRun(
                id=run_id,
                name=name,
                version=1,
                state=RunState.SCHEDULED,
                serialized_state={"type": "Scheduled"},
                flow=Flow(
                    id=str(uuid.uuid4()),
                    name=name,
                    storage=storage,
                    run_config=run_config,
                    parameter_names=parameter_names(storage, None),
                ),
                parameters=parameters or {},
                labels=tuple(labels),
                scheduled_start_time=datetime.now(timezone.utc).isoformat(),
            )
            self._wake()
        return run_id

    def cancel(self, run_id: str) -> RunState:
        """Cancel a run, as cancel_flow_run does, and return the state that it has then."""
        with self._lock:
            run = self._runs[run_id]
            if run.state not in FINISHED:
                self._set(run, after(run.state, Event.REQUEST_CANCEL), "Cancelled by a user", None)
            self._wake()
            return self._runs[run_id].state

    def state(self, run_id: str) -> RunState:
        """Return a run's state."""
        return self._runs[run_id].state

    def message(self, run_id: str) -> str:
        """Return the message of a run's state."""
        return self._messages.get(run_id, "")

    def log(self, run_id: str) -> list[str]:
        """Return the messages of a run's log, by time."""
        own = [line for line in self.lines if line.flow_run_id == run_id]
        return [line.message for line in sorted(own, key=lambda line: line.at)]

    # -- Backend

    def connect(self) -> ServerCapabilities:
        return ServerCapabilities(name="memory", arbitrates=True, wakes=True)

    def check_token(self) -> None:
        return

    def register(self, identity: AgentIdentity) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_OID, repr(identity)))

    def ready_runs(self, labels: Sequence[str], exclude: Collection[str]) -> list[FlowRun]:
        with self._lock:
            return [
                copy.deepcopy(run)  # the agent's subclass may change it
                for run_id, run in self._runs.items()
                if run.state in CLAIMABLE and run_id not in exclude and _matches(self._labels[run_id], labels)
            ]

    def claim(self, flow_run: FlowRun, token: str) -> None:
        with self._lock:
            stored = self._runs.get(flow_run.id)
            if stored is None:
                raise ClaimLost(f"State update failed: no flow run {flow_run.id}")
            if stored.state is RunState.SUBMITTED and self._claims[flow_run.id] == token:
                return
            if stored.version != flow_run.version or stored.state not in CLAIMABLE:
                raise ClaimLost(f"State update failed: {flow_run.id} is {stored.state}")
            self._set(stored, RunState.SUBMITTED, "Submitted for execution", token)

    def report(self, report: StateReport) -> None:
        with self._lock:
            stored = self._runs.get(report.flow_run_id)
            if stored is None:
                raise BackendRefused(f"no flow run {report.flow_run_id}")
            if stored.state is report.state and self._claims[stored.id] == report.claim:
                return
            try:
                state = after(stored.state, EVENT_OF_REPORT[report.state])
            except IllegalTransition as error:
                raise ClaimLost(f"State update failed for {stored.id}: {error}") from error
            self._set(stored, state, report.message, report.claim)
            self.history.append(report)

    def write_logs(self, lines: Sequence[LogLine]) -> None:
        with self._lock:
            for line in lines:
                if line.flow_run_id not in self._runs:
                    raise BackendRefused(f"no flow run {line.flow_run_id}")
            for line in lines:
                key = (line.flow_run_id, line.line_id or uuid.uuid4().hex)
                if key not in self._line_ids:
                    self._line_ids.add(key)
                    self.lines.append(line)

    def heartbeat(self, flow_run_ids: Collection[str]) -> None:
        with self._lock:
            self.heartbeats.update(dict.fromkeys(flow_run_ids, datetime.now(timezone.utc)))

    def stored_states(self, flow_run_ids: Collection[str]) -> dict[str, StoredState]:
        with self._lock:
            return {run_id: self._stored(run_id) for run_id in flow_run_ids if run_id in self._runs}

    def confirm_claim(self, flow_run_id: str, token: str) -> None:
        """Do nothing: a claim is never stored late here."""

    def stored_task_states(self, task_run_ids: Collection[str]) -> dict[str, StoredState]:
        return {}  # flows have no tasks here

    def run_at_backend(self, flow_run_id: str) -> RunAtBackend | None:
        with self._lock:
            return RunAtBackend(state=self._runs[flow_run_id].state) if flow_run_id in self._runs else None

    def engine_access(self) -> EngineAccess | None:
        return None

    def engine_variables(self) -> Mapping[str, str]:
        return {}

    def wait_for_wake(self, seen: int, timeout_s: float) -> Wake:
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            while self._sequence == seen and (left_s := deadline_s - time.monotonic()) > 0:
                self._lock.wait(left_s)
            return Wake(sequence=self._sequence)

    def close(self) -> None:
        with self._lock:
            self._wake()

    def _wake(self) -> None:
        self._sequence += 1
        self._lock.notify_all()

    def _set(self, run: FlowRun, state: RunState, message: str, claim: str | None) -> None:
        changed = run.copy()
        changed.update(state=state, version=run.version + 1)
        self._runs[run.id] = changed
        self._claims[run.id] = claim
        self._messages[run.id] = message

    def _stored(self, run_id: str) -> StoredState:
        run = self._runs[run_id]
        return StoredState(
            flow_run_id=run_id,
            version=run.version,
            state=run.state,
            message=self._messages.get(run_id),
            claim=self._claims.get(run_id),
        )


def _matches(run_labels: frozenset[str], agent_labels: Sequence[str]) -> bool:
    """Whether the agent has every label of the run. Runs without labels are only for agents without labels."""
    return run_labels <= set(agent_labels) and (bool(run_labels) or not agent_labels)

"""Report what the agent knows of a run: the pid of its process, and an end that its own engine could not report.

A state is never set over one that is more exact: not over an end that the engine reported, and not over the state of a
run that waits for, or was claimed by, another worker.
"""

from __future__ import annotations

import socket
from datetime import datetime, timezone

from loguru import logger

from flowherd.backends.late_reports import dated_message
from flowherd.backends.prefect3.claim_tokens import ClaimTokens, report_transition_id
from flowherd.backends.prefect3.orchestration import Orchestration, Proposal
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.run_row import RunRow
from flowherd.backends.prefect3.state_types import (
    CANCELLED,
    CANCELLING,
    CRASHED,
    PAUSED,
    PENDING,
    SCHEDULED,
    TERMINAL,
    TYPE_OF_REPORT,
    waits_in_process,
)
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendError, BackendRefused, ClaimLost
from flowherd.states import RunState
from flowherd.values import StateReport


class StateReporter:
    """Reports states of flow runs."""

    def __init__(
        self, transport: Prefect3Transport, orchestration: Orchestration, claim_tokens: ClaimTokens, pool: WorkPool
    ) -> None:
        self._transport = transport
        self._orchestration = orchestration
        self._claim_tokens = claim_tokens
        self._pool = pool

    def send(self, report: StateReport, worker_name: str) -> None:
        """Propose the state type of the report; for Running only show where the process is.

        Raises ClaimLost if the run is in a state that the report must not replace.
        """
        if report.state is RunState.RUNNING:
            self._show_process(report, worker_name)
            return
        wanted = TYPE_OF_REPORT.get(report.state)
        if wanted is None:
            raise BackendRefused(f"Prefect 3 has no state for {report.state} of flow run {report.flow_run_id}")
        row = self._orchestration.read(report.flow_run_id)
        transition_id = report_transition_id(report.claim, report.state, report.at)
        if row.transition_id == transition_id or row.state_type == wanted:
            return
        self._check(row, wanted, report.claim)
        decision = self._orchestration.propose(
            report.flow_run_id,
            Proposal(type=_allowed(wanted, row.state_type), message=dated_message(report), transition_id=transition_id),
        )
        if not decision.stands and (wanted, decision.state_type) == (CRASHED, CANCELLING):  # changed after the read
            decision = self._orchestration.propose(
                report.flow_run_id, Proposal(type=CANCELLED, message=dated_message(report), transition_id=transition_id)
            )
        if not decision.stands:
            raise ClaimLost(f"flow run {report.flow_run_id} does not become {report.state}: {decision.reason}")

    def cancel_without_deployment(self, row: RunRow, why: str) -> None:
        """Cancel a run that no agent can start any more, so that no poll lists it again."""
        transition_id = report_transition_id(
            None, f"{row.id} without deployment", datetime.fromtimestamp(0, timezone.utc)
        )
        self._orchestration.propose(row.id, Proposal(type=CANCELLED, message=why, transition_id=transition_id))

    def _check(self, row: RunRow, wanted: str, claim: str | None) -> None:
        """Raise ClaimLost if the run's state must not be replaced."""
        if row.state_type in TERMINAL and (wanted, row.state_type) != (CANCELLED, CRASHED):
            raise ClaimLost(f"flow run {row.id} has already ended: {row.state_type}")
        if row.state_type in (SCHEDULED, PAUSED) and not waits_in_process(row):
            raise ClaimLost(f"flow run {row.id} waits to be started again: {row.state_name or row.state_type}")
        stored = self._claim_tokens.token(row.transition_id, row.id)
        if row.state_type == PENDING and claim is not None and stored not in (None, claim):
            raise ClaimLost(f"flow run {row.id} was claimed by another worker since")

    def _show_process(self, report: StateReport, worker_name: str) -> None:
        """Store pid, worker and host of a run for people to see; a failure is only logged, nothing depends on it."""
        labels = {
            "prefect.worker.name": worker_name,
            "prefect.worker.type": "process",
            "prefect.work-pool.name": self._pool.name,
            "flowherd.host": socket.gethostname(),
        }
        try:
            if report.pid is not None:
                self._transport.patch(f"/flow_runs/{report.flow_run_id}", {"infrastructure_pid": str(report.pid)})
            self._transport.patch(f"/flow_runs/{report.flow_run_id}/labels", labels)
        except BackendError as error:
            logger.debug("Cannot show on the server where flow run {} runs: {}", report.flow_run_id, error)


def _allowed(wanted: str, current: str) -> str:
    """Return the type to propose: the server does not accept Crashed for a run that is being cancelled."""
    return CANCELLED if (wanted, current) == (CRASHED, CANCELLING) else wanted

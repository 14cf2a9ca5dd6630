"""What the agent tells of a run: that its process is there, and an end that its own engine could not tell.

A state is never set over one that says more: not over an end of the run's own, not over a run that was handed on.
"""

from __future__ import annotations

import socket
from datetime import datetime, timezone

from loguru import logger

from flowherd.backends.prefect3.claim_tokens import ClaimTokens, report_id
from flowherd.backends.prefect3.orchestration import Orchestration, Proposal
from flowherd.backends.prefect3.pool import WorkPool
from flowherd.backends.prefect3.rows import RunRow
from flowherd.backends.prefect3.states import (
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

#: The server gives a state the time at which it hears of it; a later one says when it was.
_LATE_S = 30.0


class Reports:
    """Tells the server of runs' states."""

    def __init__(
        self, transport: Prefect3Transport, orchestration: Orchestration, tokens: ClaimTokens, pool: WorkPool
    ) -> None:
        self._transport = transport
        self._orchestration = orchestration
        self._tokens = tokens
        self._pool = pool

    def tell(self, report: StateReport, worker_name: str) -> None:
        """Propose the state that stands for the report's; for Running, only say where the process is.

        Raises ClaimLost when the run is in a state that the report must not replace.
        """
        if report.state is RunState.RUNNING:
            self._tell_process(report, worker_name)
            return
        wanted = TYPE_OF_REPORT.get(report.state)
        if wanted is None:
            raise BackendRefused(f"Prefect 3 has no state for {report.state}")
        row = self._orchestration.read(report.flow_run_id)
        transition_id = report_id(report.claim, report.state, report.at)
        if row.transition_id == transition_id or row.state_type == wanted:
            return
        self._check(row, wanted, report.claim)
        decision = self._orchestration.propose(
            report.flow_run_id,
            Proposal(type=_allowed(wanted, row.state_type), message=_message(report), transition_id=transition_id),
        )
        if not decision.stands and (wanted, decision.state_type) == (CRASHED, CANCELLING):  # since it was read
            decision = self._orchestration.propose(
                report.flow_run_id, Proposal(type=CANCELLED, message=_message(report), transition_id=transition_id)
            )
        if not decision.stands:
            raise ClaimLost(f"flow run {report.flow_run_id} does not become {report.state}: {decision.reason}")

    def cancel_without_deployment(self, row: RunRow, why: str) -> None:
        """Nobody can start this run any more, so nobody is to find it again."""
        transition_id = report_id(None, f"{row.id} without deployment", datetime.fromtimestamp(0, timezone.utc))
        self._orchestration.propose(row.id, Proposal(type=CANCELLED, message=why, transition_id=transition_id))

    def _check(self, row: RunRow, wanted: str, claim: str | None) -> None:
        if row.state_type in TERMINAL and (wanted, row.state_type) != (CANCELLED, CRASHED):
            raise ClaimLost(f"flow run {row.id} has ended already: {row.state_type}")
        if row.state_type in (SCHEDULED, PAUSED) and not waits_in_process(row):
            raise ClaimLost(f"flow run {row.id} waits to be started again: {row.state_name or row.state_type}")
        stored = self._tokens.token(row.transition_id, row.id)
        if row.state_type == PENDING and claim is not None and stored not in (None, claim):
            raise ClaimLost(f"flow run {row.id} was claimed by another since")

    def _tell_process(self, report: StateReport, worker_name: str) -> None:
        """For people to see. Nothing depends on it, so nothing fails by it."""
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
            logger.debug("Where flow run {} runs could not be told: {}", report.flow_run_id, error)


def _allowed(wanted: str, current: str) -> str:
    """A run that is being cancelled ends as Cancelled or by itself; the server takes no Crashed for it."""
    return CANCELLED if (wanted, current) == (CRASHED, CANCELLING) else wanted


def _message(report: StateReport) -> str:
    late_s = (datetime.now(timezone.utc) - report.at).total_seconds()
    if late_s < _LATE_S or report.state is RunState.SUBMITTED:
        return report.message
    return f"{report.message} (at {report.at:%Y-%m-%d %H:%M:%S} UTC, told later)"

"""Claim a flow run: the server's orchestration gives it to one of all workers that claim at the same time.

The orchestration protects only runs that wait or are in progress: a worker that claims a run which has meanwhile run
and finished gets it too, and the flow would run a second time. So the run is read again just before the claim, unless
the poll that listed it was made just now. What changes between that read and the claim shows in the run's history,
where a claim must directly follow the state that was read; a claim that does not is undone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from loguru import logger

from flowherd.backends import json_values
from flowherd.backends.prefect3.claim_tokens import ClaimTokens
from flowherd.backends.prefect3.orchestration import Orchestration, Proposal
from flowherd.backends.prefect3.run_row import RunRow, transition_id
from flowherd.backends.prefect3.sent_claims import SentClaims
from flowherd.backends.prefect3.slot_waits import AWAITING_SLOT, SlotWaits
from flowherd.backends.prefect3.state_types import PENDING, SCHEDULED, waits_in_process
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, ClaimLost

#: Shortest time in which another worker can claim, run and finish a run, seconds: it needs five requests and a process.
_SHORTEST_RUN_S = 0.1
#: A run that is due within this time counts as due, seconds: clocks and requests are no more exact.
DUE_WITHIN_S = 0.05


@dataclass(frozen=True)
class _ReadRun:
    """A run as the server had it."""

    #: Time of the request (monotonic).
    at_s: float
    row: RunRow


class RunClaimer:
    """Claims flow runs for one worker."""

    def __init__(
        self,
        transport: Prefect3Transport,
        orchestration: Orchestration,
        claim_tokens: ClaimTokens,
        sent: SentClaims,
        slot_waits: SlotWaits,
    ) -> None:
        self._transport = transport
        self._orchestration = orchestration
        self._claim_tokens = claim_tokens
        self._sent = sent
        self._slot_waits = slot_waits
        #: So that no claim is undone that is wanted again.
        self._undoing = threading.Lock()
        #: Runs that the latest poll listed.
        self._polled: dict[str, _ReadRun] = {}

    def note_poll(self, sent_s: float, rows: Iterable[RunRow]) -> None:
        """Remember the runs that a poll sent at this time (monotonic) has listed."""
        self._polled = {row.id: _ReadRun(sent_s, row) for row in rows}

    def claim(self, run_id: str, token: str, worker_name: str, planned: RunRow | None = None) -> bool:
        """Claim the run for the holder of `token`; return False if the holder has it already.

        `planned` is the run as it is to be started; a run that has changed since is not claimed.

        Raises ClaimLost if another worker has it, it has finished, or it must not be started now.
        """
        with self._undoing:  # an earlier claim that arrives from now on is no longer unwanted
            self._sent.forget(run_id)
        if planned is not None and self._slot_waits.is_left(planned):
            raise ClaimLost(f"flow run {run_id} waits for its deployment's concurrency limit")
        claim_id = self._claim_tokens.transition_id(token, run_id)
        read = self._read(run_id, planned)
        before = read.row
        if (before.state_type, before.transition_id) == (PENDING, claim_id):
            self._undo_if_late(run_id, claim_id, None)
            return False
        self._check(before)
        self._sent.add(run_id, claim_id, before.state_id or "")
        # The state has the type's own name, "Pending": the server would accept a "Submitting" after another worker's
        # Pending.
        message = f"Claimed by flowherd worker {worker_name}"
        decision = self._orchestration.propose(run_id, Proposal(type=PENDING, message=message, transition_id=claim_id))
        if not decision.stands:
            self._sent.forget(run_id)
            if decision.state_name == AWAITING_SLOT:
                self._slot_waits.refused(before.deployment_id)
            raise ClaimLost(f"flow run {run_id} was not given to us: {decision.reason}")
        if time.monotonic() - read.at_s > _SHORTEST_RUN_S:
            self._undo_if_late(run_id, claim_id, before.state_id)
        self._sent.forget(run_id)
        self._slot_waits.accepted(before.deployment_id)
        return True

    def confirm(self, run_id: str, token: str) -> None:
        """Confirm a claim that another process has made. Raises ClaimLost if it was stored too late."""
        self._undo_if_late(run_id, self._claim_tokens.transition_id(token, run_id), None)

    def settle(self, run_id: str) -> bool:
        """Check a claim of ours whose answer was lost; return whether it stands, as far as is known here."""
        claim = self._sent.waiting(run_id)
        if claim is None:
            return True
        is_stored, stands = True, True
        try:
            is_stored = self._undo_if_late(run_id, UUID(claim.claim_id), claim.state_id)
        except ClaimLost:
            stands = False
        if is_stored:
            self._sent.forget(run_id)  # not reached if the server did not answer; it is checked again then
        else:
            self._sent.give_up(run_id)
        return stands

    def undo_late_claims(self) -> None:
        """Undo claims that were given up and that the server has stored after all, over another worker's states.

        Among them are those that an earlier agent on this state directory had sent when it died. Raises
        BackendUnavailable; the claims are checked again at the next call then.
        """
        with self._undoing:
            for claim in self._sent.given_up():
                is_over = claim.is_over
                try:
                    is_over |= self._undo_if_late(claim.run_id, UUID(claim.claim_id), claim.state_id)
                except (ClaimLost, BackendRefused):  # undone, or the run is gone
                    is_over = True
                if is_over:
                    self._sent.forget(claim.run_id)

    def _read(self, run_id: str, planned: RunRow | None) -> _ReadRun:
        """Return the run as it is now. Raises ClaimLost if it is gone or was changed."""
        polled = self._polled.pop(run_id, None)
        now_s = time.monotonic()
        if polled is not None and now_s - polled.at_s < _SHORTEST_RUN_S:
            return polled
        try:
            row = self._orchestration.read(run_id)
        except BackendRefused as error:
            if error.code == "404":
                raise ClaimLost(f"flow run {run_id} is gone") from error
            raise
        if planned is not None and _inputs(row) != _inputs(planned):
            raise ClaimLost(f"flow run {run_id} was changed since the poll; the next poll reads it again")
        return _ReadRun(now_s, row)

    def _check(self, row: RunRow) -> None:
        """Raise ClaimLost unless the run waits to be started now."""
        if row.state_type != SCHEDULED or waits_in_process(row):
            raise ClaimLost(f"flow run {row.id} does not wait to be started: {row.state_type} {row.state_name}")
        early_s = (row.due_at - self._transport.server_now()).total_seconds() if row.due_at else 0.0
        if early_s > DUE_WITHIN_S:
            raise ClaimLost(f"flow run {row.id} is not due for {early_s:.1f} s")

    def _undo_if_late(self, run_id: str, claim_id: UUID, state_id: str | None) -> bool:
        """Check in the run's history whether the claim came too late, and return whether the claim is stored.

        A claim that came too late is undone by setting the state that it replaced, and ClaimLost is raised. `state_id`
        is that of the run's state before the claim; None or empty if that is not known.
        """
        states = self._orchestration.history(run_id)
        others = _states_since_it_waited(states, claim_id, state_id)
        if not others or not self._is_claimed(run_id, claim_id):
            # Either the claim is the only change, or its state was replaced already; then the next read shows that.
            return any(transition_id(state) == claim_id for state in states)
        logger.warning(
            "Flow run {} was run by another worker while it was claimed here; setting its state back", run_id
        )
        replaced = others[-1]
        proposal = Proposal(
            type=json_values.text(replaced["type"]),
            name=json_values.text_or_none(replaced.get("name")),
            message=json_values.text_or_none(replaced.get("message")) or "",
            data=replaced.get("data"),
            details=json_values.mapping(replaced.get("state_details") or {}),
            transition_id=uuid4(),
        )
        self._orchestration.propose(run_id, proposal, force=True)
        raise ClaimLost(f"flow run {run_id} ran elsewhere meanwhile")

    def _is_claimed(self, run_id: str, claim_id: UUID) -> bool:
        row = self._orchestration.read(run_id)
        return (row.state_type, row.transition_id) == (PENDING, claim_id)


def _states_since_it_waited(
    states: Sequence[Mapping[str, Any]], claim_id: UUID, state_id: str | None
) -> list[Mapping[str, Any]]:
    """Return the states, except the claim's own, that the run has had since it waited to be started, by time.

    Their times do not show whether they came before the claim: the server dates a state when it reads the proposal, and
    a busy server stores it much later, over the states that the run has had meanwhile.
    """
    others = [state for state in states if transition_id(state) != claim_id]
    waiting = [index for index, state in enumerate(others) if _is_as_read(state, state_id)]
    waiting = waiting or [index for index, state in enumerate(others) if state.get("type") == SCHEDULED]
    # The server itself renames a run that has waited too long to Late, which is a new state in the history.
    return [state for state in others[waiting[-1] + 1 if waiting else 0 :] if state.get("name") != "Late"]


def _is_as_read(state: Mapping[str, Any], state_id: str | None) -> bool:
    return bool(state.get("id") == state_id if state_id else state.get("type") == SCHEDULED)


def _inputs(row: RunRow) -> tuple[Any, ...]:
    """Return the parts of a run that its start depends on and that can be changed."""
    return row.name, row.parameters, row.job_variables, row.tags, row.deployment_id

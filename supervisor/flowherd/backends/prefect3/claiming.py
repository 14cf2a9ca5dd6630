"""Taking a flow run: the server's orchestration gives it to one of all who ask at the same time.

It guards only runs that wait or are in flight: whoever asks for one that has run and finished meanwhile gets it too,
and the flow would run a second time. So the run is read again just before the claim. What slips through between that
look and the claim is found by the count of its starts, and is put back into the state that it had finished in.
"""

from __future__ import annotations

import time
from uuid import uuid4

from loguru import logger

from flowherd.backends.prefect3.orchestration import Orchestration, Proposal
from flowherd.backends.prefect3.rows import RunRow
from flowherd.backends.prefect3.states import PENDING, SCHEDULED, TERMINAL, waits_in_process
from flowherd.backends.prefect3.tokens import ClaimTokens
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, ClaimLost

#: Nobody claims, starts and finishes a run in less: that needs five requests and a new process.
_SHORTEST_RUN_S = 0.1
#: A run that is due within this time is due: clocks and requests are no finer.
DUE_WITHIN_S = 0.05


class Claims:
    """Claims flow runs for one worker."""

    def __init__(self, transport: Prefect3Transport, orchestration: Orchestration, tokens: ClaimTokens) -> None:
        self._transport = transport
        self._orchestration = orchestration
        self._tokens = tokens

    def claim(self, run_id: str, token: str, worker_name: str) -> None:
        """Take the run for the holder of `token`; a success too when the token is there already.

        Raises ClaimLost when somebody else has it, it has finished, or it is not to be started now.
        """
        transition_id = self._tokens.transition_id(token, run_id)
        looked_s = time.monotonic()
        before = self._read(run_id)
        if (before.state_type, before.transition_id) == (PENDING, transition_id):
            return
        self._check(before)
        # Its name is the type's own, "Pending": the server lets one "Submitting" follow upon another worker's Pending.
        message = f"Claimed by flowherd worker {worker_name}"
        decision = self._orchestration.propose(
            run_id, Proposal(type=PENDING, message=message, transition_id=transition_id)
        )
        if not decision.stands:
            raise ClaimLost(f"flow run {run_id} was not given to us: {decision.reason}")
        if time.monotonic() - looked_s > _SHORTEST_RUN_S:
            self._check_not_run_meanwhile(before)

    def _read(self, run_id: str) -> RunRow:
        try:
            return self._orchestration.read(run_id)
        except BackendRefused as error:
            if error.code == "404":
                raise ClaimLost(f"flow run {run_id} is gone") from error
            raise

    def _check(self, row: RunRow) -> None:
        if row.state_type != SCHEDULED or waits_in_process(row):
            raise ClaimLost(f"flow run {row.id} does not wait to be started: {row.state_type} {row.state_name}")
        early_s = (row.due_at - self._transport.server_now()).total_seconds() if row.due_at else 0.0
        if early_s > DUE_WITHIN_S:
            raise ClaimLost(f"flow run {row.id} is not due for {early_s:.1f} s")

    def _check_not_run_meanwhile(self, before: RunRow) -> None:
        now = self._read(before.id)
        if now.run_count == before.run_count:
            return
        states = self._orchestration.history(before.id)
        finished = [state for state in states if state.get("type") in TERMINAL]
        logger.warning("Flow run {} ran elsewhere while it was claimed; its end is put back", before.id)
        if finished:
            last = finished[-1]
            proposal = Proposal(
                type=last["type"],
                name=last.get("name"),
                message=last.get("message") or "",
                data=last.get("data"),
                transition_id=uuid4(),
            )
            self._orchestration.propose(before.id, proposal, force=True)
        raise ClaimLost(f"flow run {before.id} ran elsewhere meanwhile")

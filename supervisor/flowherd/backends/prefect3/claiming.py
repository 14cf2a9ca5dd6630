"""Taking a flow run: the server's orchestration gives it to one of all who ask at the same time.

It guards only runs that wait or are in flight: whoever asks for one that has run and finished meanwhile gets it too,
and the flow would run a second time. So the run is read again just before the claim, unless the poll that told of it
has just been made. What slips through between that look and the claim shows in the run's history, where a claim must
follow upon the state that was looked at; a claim that does not is undone.
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
from flowherd.backends.prefect3.rows import RunRow, uuid_or_none
from flowherd.backends.prefect3.states import PENDING, SCHEDULED, waits_in_process
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.errors import BackendRefused, ClaimLost

#: Nobody claims, starts and finishes a run in less: that needs five requests and a new process.
_SHORTEST_RUN_S = 0.1
#: A run that is due within this time is due: clocks and requests are no finer.
DUE_WITHIN_S = 0.05
#: A claim that its sender has given up can still reach the server, and be stored, for so long.
_ADRIFT_S = 300.0


@dataclass(frozen=True)
class _Look:
    """A run as the server had it."""

    #: When it was asked for (monotonic).
    at_s: float
    row: RunRow


class Claims:
    """Claims flow runs for one worker."""

    def __init__(self, transport: Prefect3Transport, orchestration: Orchestration, tokens: ClaimTokens) -> None:
        self._transport = transport
        self._orchestration = orchestration
        self._tokens = tokens
        #: Claims that got no answer yet: their transition ids, and the runs as they were before.
        self._unsettled: dict[str, tuple[UUID, RunRow]] = {}
        #: Of these, those that the server had not stored when it was asked, and until when (monotonic) they may be.
        self._adrift: dict[str, tuple[UUID, RunRow, float]] = {}
        self._adrift_lock = threading.Lock()
        #: What the last poll told of.
        self._polled: dict[str, _Look] = {}

    def note_poll(self, asked_s: float, rows: Iterable[RunRow]) -> None:
        """A poll that was made then (monotonic) has told of these runs."""
        self._polled = {row.id: _Look(asked_s, row) for row in rows}

    def claim(self, run_id: str, token: str, worker_name: str, described: RunRow | None = None) -> bool:
        """Take the run for the holder of `token`; False when the holder had it already.

        `described` is the run as it is to be started; what has changed since is not.

        Raises ClaimLost when somebody else has it, it has finished, or it is not to be started now.
        """
        with self._adrift_lock:  # from here on the answer counts
            self._adrift.pop(run_id, None)
        transition_id = self._tokens.transition_id(token, run_id)
        look = self._look(run_id, described)
        before = look.row
        if (before.state_type, before.transition_id) == (PENDING, transition_id):
            self._undo_if_late(run_id, transition_id, None)
            return False
        self._check(before)
        self._unsettled[run_id] = transition_id, before
        # Its name is the type's own, "Pending": the server lets one "Submitting" follow upon another worker's Pending.
        message = f"Claimed by flowherd worker {worker_name}"
        decision = self._orchestration.propose(
            run_id, Proposal(type=PENDING, message=message, transition_id=transition_id)
        )
        if not decision.stands:
            del self._unsettled[run_id]
            raise ClaimLost(f"flow run {run_id} was not given to us: {decision.reason}")
        if time.monotonic() - look.at_s > _SHORTEST_RUN_S:
            self._undo_if_late(run_id, transition_id, before)
        self._unsettled.pop(run_id, None)
        return True

    def confirm(self, run_id: str, token: str) -> None:
        """Make sure of a claim that another process has made. Raises ClaimLost when it came too late."""
        self._undo_if_late(run_id, self._tokens.transition_id(token, run_id), None)

    def settle(self, run_id: str) -> bool:
        """Look at a claim of ours whose answer did not come; whether it stands, so far as it is known here."""
        if run_id not in self._unsettled:
            return True
        transition_id, before = self._unsettled[run_id]
        arrived, stands = True, True
        try:
            arrived = self._undo_if_late(run_id, transition_id, before)
        except ClaimLost:
            stands = False
        self._unsettled.pop(run_id, None)  # not where the server did not answer: then it is looked at again
        if not arrived:
            with self._adrift_lock:
                self._adrift[run_id] = transition_id, before, time.monotonic() + _ADRIFT_S
        return stands

    def look_after_adrift(self) -> None:
        """Undo claims that were given up and have come, over what others have made of the run, to the server after all.

        Raises BackendUnavailable; they are looked at again then.
        """
        with self._adrift_lock:
            for run_id, (transition_id, before, until_s) in list(self._adrift.items()):
                try:
                    arrived = self._undo_if_late(run_id, transition_id, before)
                except (ClaimLost, BackendRefused):  # undone, or the run is gone
                    arrived = True
                if arrived or time.monotonic() > until_s:
                    del self._adrift[run_id]

    def _look(self, run_id: str, described: RunRow | None) -> _Look:
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
        if described is not None and _what_is_run(row) != _what_is_run(described):
            raise ClaimLost(f"flow run {run_id} was changed since it was described; the next poll describes it anew")
        return _Look(now_s, row)

    def _check(self, row: RunRow) -> None:
        if row.state_type != SCHEDULED or waits_in_process(row):
            raise ClaimLost(f"flow run {row.id} does not wait to be started: {row.state_type} {row.state_name}")
        early_s = (row.due_at - self._transport.server_now()).total_seconds() if row.due_at else 0.0
        if early_s > DUE_WITHIN_S:
            raise ClaimLost(f"flow run {row.id} is not due for {early_s:.1f} s")

    def _undo_if_late(self, run_id: str, transition_id: UUID, looked_at: RunRow | None) -> bool:
        """Put back what a claim has replaced that came too late, and raise ClaimLost then; whether it has come."""
        states = self._orchestration.history(run_id)
        others = _since_it_waited(states, transition_id, looked_at)
        if not others or not self._is_claimed(run_id, transition_id):
            # Nothing but the claim, or it is not the claim's any more: whoever looks finds out.
            return any(_transition_id(state) == transition_id for state in states)
        logger.warning("Flow run {} ran elsewhere while it was claimed; its state is put back", run_id)
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

    def _is_claimed(self, run_id: str, transition_id: UUID) -> bool:
        row = self._orchestration.read(run_id)
        return (row.state_type, row.transition_id) == (PENDING, transition_id)


def _since_it_waited(
    states: Sequence[Mapping[str, Any]], transition_id: UUID, looked_at: RunRow | None
) -> list[Mapping[str, Any]]:
    """The states, beside the claim's own, that the run was in since it waited to be started, by their times.

    Whether they came before the claim their times do not tell: the server dates a state when it has read the proposal,
    and a busy one stores it much later, over what has become of the run meanwhile.
    """
    others = [state for state in states if _transition_id(state) != transition_id]
    waiting = [place for place, state in enumerate(others) if _is_what_was_looked_at(state, looked_at)]
    waiting = waiting or [place for place, state in enumerate(others) if state.get("type") == SCHEDULED]
    # The server itself renames what waits too long, which makes it another state.
    return [state for state in others[waiting[-1] + 1 if waiting else 0 :] if state.get("name") != "Late"]


def _is_what_was_looked_at(state: Mapping[str, Any], looked_at: RunRow | None) -> bool:
    if looked_at is None:
        return state.get("type") == SCHEDULED
    return state.get("id") == looked_at.state_id


def _what_is_run(row: RunRow) -> tuple[Any, ...]:
    """All that a description of the run is made of and that can be changed."""
    return row.name, row.parameters, row.job_variables, row.tags, row.deployment_id


def _transition_id(state: Mapping[str, Any]) -> UUID | None:
    return uuid_or_none(json_values.mapping(state.get("state_details") or {}).get("transition_id"))

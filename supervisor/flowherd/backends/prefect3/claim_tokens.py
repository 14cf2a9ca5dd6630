"""Convert claim tokens to the transition ids that the server stores with a state, and back.

A transition id is the one part of a state that a client is free to choose, that the server returns, and by which it
recognises a proposal that it has already accepted. It is a UUID, while a claim token is IDENTITY/RUN. An agent's
identity is itself a UUID, so the transition id of a claim is the identity, and adding the run's id gives the token.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from uuid import UUID, uuid5

_NAMESPACE = UUID("4b1c7d5e-9f57-4f0c-8f0e-6c5b3a0f2d11")
#: Maximum number of tokens of another form that are remembered; the oldest are dropped first.
_MAX_REMEMBERED = 10_000


class ClaimTokens:
    """Converts both ways; tokens of another form than IDENTITY/RUN only as long as this object exists."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remembered: OrderedDict[UUID, str] = OrderedDict()

    def transition_id(self, token: str, run_id: str) -> UUID:
        """Return the transition id of the claim of a run."""
        identity, slash, rest = token.partition("/")
        if slash and rest == run_id and len(identity) == 32:
            try:
                return UUID(hex=identity)
            except ValueError:
                pass
        derived = uuid5(_NAMESPACE, token)
        with self._lock:
            self._remembered[derived] = token
            while len(self._remembered) > _MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return derived

    def token(self, transition_id: UUID | None, run_id: str) -> str | None:
        """Return the token of the claim with this id; for a claim of another client a token that no agent has."""
        if transition_id is None:
            return None
        with self._lock:
            return self._remembered.get(transition_id) or f"{transition_id.hex}/{run_id}"


def report_transition_id(token: str | None, state: str, at: datetime) -> UUID:
    """Return the transition id of a report: the same when it is sent again, and never that of a claim."""
    return uuid5(_NAMESPACE, f"{token}|{state}|{at.isoformat()}")

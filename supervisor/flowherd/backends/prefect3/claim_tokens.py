"""Our claim tokens as the transition ids that the server keeps with a state, and back.

A transition id is the one thing in a state that is free for a client to choose, is given back, and makes the server
recognise a proposal that it has accepted already. It is a UUID, while a claim token is IDENTITY/RUN; an agent's
identity is a UUID of its own, so the id of a claim is the identity, and the run's id completes the token again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from datetime import datetime
from uuid import UUID, uuid5

_NAMESPACE = UUID("4b1c7d5e-9f57-4f0c-8f0e-6c5b3a0f2d11")
#: Tokens of another form that are remembered, newest first to go last.
_MOST_REMEMBERED = 10_000


class ClaimTokens:
    """Both ways between tokens and transition ids; tokens of another form only while this object lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._remembered: OrderedDict[UUID, str] = OrderedDict()

    def transition_id(self, token: str, run_id: str) -> UUID:
        """The transition id of the claim of a run."""
        identity, slash, rest = token.partition("/")
        if slash and rest == run_id and len(identity) == 32:
            try:
                return UUID(hex=identity)
            except ValueError:
                pass
        derived = uuid5(_NAMESPACE, token)
        with self._lock:
            self._remembered[derived] = token
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return derived

    def token(self, transition_id: UUID | None, run_id: str) -> str | None:
        """The token of a claim with this id; for another client's claim one that nobody holds."""
        if transition_id is None:
            return None
        with self._lock:
            return self._remembered.get(transition_id) or f"{transition_id.hex}/{run_id}"


def report_id(token: str | None, state: str, at: datetime) -> UUID:
    """The transition id of one report: the same when it is told again, and never that of a claim."""
    return uuid5(_NAMESPACE, f"{token}|{state}|{at.isoformat()}")

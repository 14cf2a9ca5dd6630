"""A state that a flow run or task run is about to enter. Knows no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flowherd.states import RunState

#: Prefix of claims that carried no token: made by the Prefect agent whose id follows. All others are from flowherd's
#: agents.
BY_PREFECTS_AGENT = "agent:"


@dataclass(frozen=True, kw_only=True)
class NewState:
    """A state to enter."""

    type: RunState
    #: The state as JSON, as the dialect's clients read it.
    serialized: Mapping[str, Any]
    #: When the run entered it, microseconds since the epoch.
    at_us: int
    #: For states that wait for a time: that time, microseconds since the epoch.
    start_us: int | None = None
    #: Claim token of the reporter; None if it sent none.
    claim: str | None = None

    @property
    def message(self) -> str | None:
        """The state's message for people."""
        message = self.serialized.get("message")
        return None if message is None else str(message)


def plain_state(kind: RunState, message: str, at_us: int, start_us: int | None = None, **more: Any) -> NewState:
    """Make a state that the server itself puts a run into; `more` is added to its JSON."""
    serialized = {"type": kind.value, "message": message, "context": {}, "cached_inputs": {}, **more}
    return NewState(type=kind, serialized=serialized, at_us=at_us, start_us=start_us)

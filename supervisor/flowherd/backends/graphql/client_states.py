"""States as `Agent.client` takes and returns them: Prefect's own objects where Prefect is loaded, else simple ones."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from flowherd.attribute_dict import AttributeDict

#: How long a run that the server has queued waits before it asks again, seconds; Prefect's `cloud.queue_interval`.
_QUEUE_INTERVAL_S = 30.0
_PREFECT_STATES = "prefect.engine.state"

_RETRYING = frozenset({"Retrying"})
_SCHEDULED = frozenset({"Scheduled", "Paused", "Resume"}) | _RETRYING
_META = frozenset({"Submitted", "Queued", "ClientFailed"})
_SUCCESSFUL = frozenset({"Success", "Cached", "Mapped", "Skipped"})
_FAILED = frozenset({"Failed", "TimedOut", "TriggerFailed", "ValidationFailed"})
#: The types for which a question about a state is answered with yes; Prefect's classes form the same families.
_YES: Mapping[str, frozenset[str]] = {
    "is_pending": frozenset({"Pending"}) | _SCHEDULED | _META,
    "is_scheduled": _SCHEDULED,
    "is_retrying": _RETRYING,
    "is_submitted": frozenset({"Submitted"}),
    "is_queued": frozenset({"Queued"}),
    "is_meta_state": _META,
    "is_running": frozenset({"Running", "Cancelling"}),
    "is_finished": frozenset({"Finished", "Looped", "Cancelled"}) | _SUCCESSFUL | _FAILED,
    "is_successful": _SUCCESSFUL,
    "is_failed": _FAILED,
    "is_cached": frozenset({"Cached"}),
    "is_mapped": frozenset({"Mapped"}),
    "is_skipped": frozenset({"Skipped"}),
    "is_looped": frozenset({"Looped"}),
}


class ClientState(AttributeDict):
    """A serialized state, with the methods by which Prefect's states are asked what they are: `is_finished()` etc."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name in _YES:
            return lambda: self.get("type") in _YES[name]
        return super().__getattr__(name)

    def serialize(self) -> dict[str, Any]:
        """Return the state as the API takes it."""
        return self.to_dict()


def read_state(serialized: Mapping[str, Any] | None) -> Any:
    """Return a state of the API: an object of Prefect's own class if the program has loaded Prefect."""
    serialized = {"message": None, **(serialized or {"type": "Pending"})}
    prefect_states = sys.modules.get(_PREFECT_STATES)
    return ClientState(serialized) if prefect_states is None else prefect_states.State.deserialize(serialized)


def serialized_state(state: Any) -> Any:
    """Return a state as the API takes it: from an object that serializes itself, a dict, or the name of a type."""
    if hasattr(state, "serialize"):
        return state.serialize()
    return {"type": state} if isinstance(state, str) else state


def queued_state(message: str | None) -> Any:
    """Return the state of a run that the server has queued instead of giving it the state that was asked for."""
    start_time = datetime.now(timezone.utc) + timedelta(seconds=_QUEUE_INTERVAL_S)
    prefect_states = sys.modules.get(_PREFECT_STATES)
    if prefect_states is None:
        return ClientState(type="Queued", message=message, start_time=start_time.isoformat())
    return prefect_states.Queued(message=message, start_time=start_time)

"""A state to be entered by a flow run or a task run: its value, its row in a history, the columns that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import RowMapping

from flowherd.states import FINISHED, RunState
from flowherd_server.graphql.operations import Call

#: How a claim begins that carried no token: by the agent of Prefect that made it. All others are of flowherd's agents.
BY_PREFECTS_AGENT = "agent:"


@dataclass(frozen=True, kw_only=True)
class NewState:
    """A state to be entered."""

    type: RunState
    serialized: Mapping[str, Any]
    #: When it came about.
    at_us: int
    #: For states that wait for a time.
    start_us: int | None = None
    #: Who says so; None where nobody said.
    claim: str | None = None

    @property
    def message(self) -> str | None:
        """What it says to people."""
        message = self.serialized.get("message")
        return None if message is None else str(message)


def plain_state(kind: RunState, message: str, at_us: int, start_us: int | None = None, **more: Any) -> NewState:
    """A state that the server itself brings about."""
    serialized = {"type": kind.value, "message": message, "context": {}, "cached_inputs": {}, **more}
    return NewState(type=kind, serialized=serialized, at_us=at_us, start_us=start_us)


def state_row(call: Call, owner_column: str, owner_id: str, version: int, state: NewState) -> dict[str, Any]:
    """A row of a history of states."""
    return {
        "id": str(uuid4()),
        owner_column: owner_id,
        "version": version,
        "state": state.type.value,
        "timestamp": state.at_us,
        "start_time": state.start_us,
        "message": state.message,
        "serialized_state": state.serialized,
        "created": call.now,
    }


def state_columns(call: Call, version: int, state: NewState) -> dict[str, Any]:
    """What a run's own row repeats of its newest state."""
    return {
        "version": version,
        "state": state.type.value,
        "serialized_state": state.serialized,
        "state_message": state.message,
        "state_timestamp": state.at_us,
        "state_start_time": state.start_us,
        "updated": call.now,
    }


def times_of_run(run: RowMapping, state: NewState) -> dict[str, Any]:
    """The first Running is the start; the end is known only while the run is finished."""
    times: dict[str, Any] = {"end_time": state.at_us if state.type in FINISHED else None}
    if state.type is RunState.RUNNING:
        times["start_time"] = min(state.at_us, run["start_time"] or state.at_us)
    if state.type in FINISHED and run["start_time"] is not None:
        # Two hosts' clocks may disagree; a run does not end before it began.
        times["end_time"] = max(state.at_us, run["start_time"])
    return times

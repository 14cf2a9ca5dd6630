"""Proposals of states, and what the server's orchestration makes of them.

`status` in the answer decides, never the HTTP code: a refusal can come with 201.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowherd.backends import json_values
from flowherd.backends.prefect3.rows import RunRow, objects, run_row, uuid_or_none
from flowherd.backends.prefect3.transport import Prefect3Transport


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The server's answer to a proposal."""

    #: Whether the proposal, or the same one before, has become the run's state.
    stands: bool
    #: The type and the transition id of the state that the run is in now; empty where the answer does not tell.
    state_type: str = ""
    transition_id: UUID | None = None
    #: Why not.
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A state for a flow run."""

    type: str
    message: str
    #: By which the server, and we, recognise that it was proposed before.
    transition_id: UUID
    name: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None


class Orchestration:
    """Reads runs and proposes states for them."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport

    def read(self, run_id: str) -> RunRow:
        """The run as it is now. Raises BackendRefused with the code 404 when there is none."""
        return run_row(self._transport.get(f"/flow_runs/{run_id}"))

    def history(self, run_id: str) -> list[Mapping[str, Any]]:
        """The states that the run was in, oldest first."""
        rows = objects(self._transport.get("/flow_run_states/", {"flow_run_id": run_id}))
        return sorted(rows, key=lambda row: str(row.get("timestamp")))

    def propose(self, run_id: str, proposal: Proposal, *, force: bool = False) -> Decision:
        """Propose a state. `force` sets it whatever the rules say."""
        state = {
            "type": proposal.type,
            "name": proposal.name,
            "message": proposal.message,
            "data": proposal.data,
            "state_details": {**proposal.details, "transition_id": str(proposal.transition_id)},
        }
        answer = self._transport.post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": force})
        return _decision(json_values.mapping(answer), proposal)


def _decision(answer: Mapping[str, Any], proposal: Proposal) -> Decision:
    status = json_values.text(answer["status"])
    state = json_values.mapping(answer.get("state") or {})
    details = json_values.mapping(state.get("state_details") or {})
    state_type = json_values.text(state.get("type") or "")
    transition_id = uuid_or_none(details.get("transition_id"))
    again = (state_type, transition_id) == (proposal.type, proposal.transition_id)
    accepted = status == "ACCEPT" and state_type == proposal.type
    reason = json_values.mapping(answer.get("details") or {}).get("reason")
    return Decision(
        stands=accepted or again,
        state_type=state_type,
        transition_id=transition_id,
        reason=f"{status}: {reason or state_type}"[:500],
    )

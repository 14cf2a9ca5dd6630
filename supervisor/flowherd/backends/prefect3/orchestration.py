"""Read runs and propose states to the server's orchestration, which may accept or refuse them.

`status` in the answer decides, never the HTTP status: a refusal can come with 201.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from flowherd.backends import json_values
from flowherd.backends.prefect3.run_row import RunRow, run_row, transition_id
from flowherd.backends.prefect3.transport import Prefect3Transport
from flowherd.shown_text import storable

#: Maximum length of a reason, characters.
_MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A state that a client proposes for a flow run."""

    type: str
    message: str
    #: Id by which the server and the agent recognise a proposal that was sent before.
    transition_id: UUID
    name: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    data: Any = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The server's answer to a proposal."""

    #: Whether the proposal, or the same one sent before, is the run's state now.
    stands: bool
    #: Type of the run's state now; empty if the answer does not contain it.
    state_type: str = ""
    #: Name of that state; empty likewise.
    state_name: str = ""
    #: Reason for a refusal.
    reason: str = ""


class Orchestration:
    """Reads runs and proposes states for them."""

    def __init__(self, transport: Prefect3Transport) -> None:
        self._transport = transport

    def read(self, run_id: str) -> RunRow:
        """Return the run as it is now. Raises BackendRefused with the code 404 if there is none."""
        return run_row(self._transport.get(f"/flow_runs/{run_id}"))

    def history(self, run_id: str) -> list[Mapping[str, Any]]:
        """Return the states that the run has had, oldest first."""
        rows = json_values.mappings_not_null(self._transport.get("/flow_run_states/", {"flow_run_id": run_id}))
        return sorted(rows, key=lambda row: str(row.get("timestamp")))

    def propose(self, run_id: str, proposal: Proposal, *, force: bool = False) -> Decision:
        """Propose a state; `force` sets it against the orchestration's rules."""
        state = {
            "type": proposal.type,
            "name": proposal.name,
            "message": storable(proposal.message),
            "data": proposal.data,
            "state_details": {**proposal.details, "transition_id": str(proposal.transition_id)},
        }
        answer = self._transport.post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": force})
        return _decision(json_values.mapping(answer), proposal)


def _decision(answer: Mapping[str, Any], proposal: Proposal) -> Decision:
    status = json_values.text(answer["status"])
    state = json_values.mapping(answer.get("state") or {})
    state_type = json_values.text(state.get("type") or "")
    is_same = (state_type, transition_id(state)) == (proposal.type, proposal.transition_id)
    is_accepted = status == "ACCEPT" and state_type == proposal.type
    reason = json_values.mapping(answer.get("details") or {}).get("reason")
    return Decision(
        stands=is_accepted or is_same,
        state_type=state_type,
        state_name=json_values.text(state.get("name") or ""),
        reason=f"{status}: {reason or state_type}"[:_MAX_REASON_CHARACTERS],
    )

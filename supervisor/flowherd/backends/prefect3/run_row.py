"""Read a flow run from the server's answers, value by value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from flowherd.backends import json_values
from flowherd.values import checked_id


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """The parts of a flow run's row that the agent uses."""

    id: str
    name: str
    flow_id: str
    deployment_id: str | None
    state_type: str
    state_name: str
    message: str | None = None
    #: Transition id that the client which proposed the state has chosen.
    transition_id: UUID | None = None
    #: Number of times that the run has been Running.
    run_count: int = 0
    #: Time at which the run is to start; None if no time is set.
    due_at: datetime | None = None
    #: Whether the run waits for its next try within the process of the last one.
    retries_in_process: bool = False
    #: Whether the run's process has ended and another one continues once the run is resumed.
    suspended: bool = False
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    state_id: str | None = None
    #: The whole state; empty in the answer to a poll, which has none.
    state: Mapping[str, Any] = field(default_factory=dict)
    #: The whole row, unchanged.
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


def run_row(value: Any) -> RunRow:
    """Return a flow run. Raises ValueError, TypeError or KeyError if `value` is not one."""
    row = json_values.mapping(value)
    run_id = checked_id(row["id"])
    state = json_values.mapping(row.get("state") or {})
    details = json_values.mapping(state.get("state_details") or {})
    policy = json_values.mapping(row.get("empirical_policy") or {})
    return RunRow(
        id=run_id,
        name=json_values.text_or_none(row.get("name")) or run_id,
        flow_id=checked_id(row["flow_id"]),
        deployment_id=None if row.get("deployment_id") is None else checked_id(row["deployment_id"]),
        state_type=json_values.text(state.get("type") or row["state_type"]),
        state_name=json_values.text(state.get("name") or row.get("state_name") or ""),
        message=json_values.text_or_none(state.get("message")),
        transition_id=json_values.uuid_or_none(details.get("transition_id")),
        run_count=json_values.integer(row.get("run_count") or 0),
        due_at=json_values.time_or_none(row.get("next_scheduled_start_time") or row.get("expected_start_time")),
        retries_in_process=policy.get("retry_type") == "in_process",
        suspended=details.get("pause_reschedule") is True,
        parameters=json_values.mapping(row.get("parameters") or {}),
        job_variables=json_values.mapping(row.get("job_variables") or {}),
        tags=tuple(map(json_values.text, row.get("tags") or ())),
        state_id=json_values.text_or_none(state.get("id") or row.get("state_id")),
        state=state,
        document=row,
    )


def transition_id(state: Mapping[str, Any]) -> UUID | None:
    """Return the transition id of a state of a run's history."""
    details = json_values.mapping(state.get("state_details") or {})
    return json_values.uuid_or_none(details.get("transition_id"))

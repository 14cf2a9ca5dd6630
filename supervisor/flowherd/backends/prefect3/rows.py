"""Flow runs as the server's answers hold them, read value by value."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from flowherd.backends import json_values
from flowherd.values import checked_id


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """What is read of a flow run."""

    id: str
    name: str
    flow_id: str
    deployment_id: str | None
    state_type: str
    state_name: str
    message: str | None = None
    #: Given to the state by whoever proposed it.
    transition_id: UUID | None = None
    #: How often it has been Running.
    run_count: int = 0
    #: When it is to start; None when no time is set.
    due_at: datetime | None = None
    #: It waits for its next try within the process that made the last one.
    retries_in_process: bool = False
    #: Its process has ended and another one is to go on once it is resumed.
    suspended: bool = False
    infrastructure_pid: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job_variables: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    state_id: str | None = None
    #: The whole state, where the answer has one; a poll's has none.
    state: Mapping[str, Any] = field(default_factory=dict)
    #: All of it, as it was answered.
    document: Mapping[str, Any] = field(default_factory=dict, repr=False)


def run_row(value: Any) -> RunRow:
    """Raises ValueError, TypeError or KeyError for what is no flow run."""
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
        transition_id=uuid_or_none(details.get("transition_id")),
        run_count=json_values.whole(row.get("run_count") or 0),
        due_at=json_values.time_or_none(row.get("next_scheduled_start_time") or row.get("expected_start_time")),
        retries_in_process=policy.get("retry_type") == "in_process",
        suspended=details.get("pause_reschedule") is True,
        infrastructure_pid=json_values.text_or_none(row.get("infrastructure_pid")),
        parameters=json_values.mapping(row.get("parameters") or {}),
        job_variables=json_values.mapping(row.get("job_variables") or {}),
        tags=tuple(map(json_values.text, row.get("tags") or ())),
        state_id=json_values.text_or_none(state.get("id") or row.get("state_id")),
        state=state,
        document=row,
    )


def objects(value: Any) -> list[Mapping[str, Any]]:
    """A list of JSON objects. Nothing is not an empty one: who takes it for that finds no runs where there are some."""
    if value is None:
        raise TypeError("nothing in place of a list")
    return json_values.mappings(value)


def uuid_or_none(value: Any) -> UUID | None:
    """A UUID, or None for anything else."""
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return UUID(value)
    return None

"""Creating flow runs, for people and for schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from flowherd.flow_rules import RULES_KEY
from flowherd.states import RunState
from flowherd.story.asked_by import BY_SCHEDULE
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.rules.settle import rules_of
from flowherd_server.runs.create_task_runs import create_task_runs
from flowherd_server.runs.flow_run_states import enter_first_flow_run_state
from flowherd_server.runs.labels import check_labels, normal_labels
from flowherd_server.runs.new_state import plain_state
from flowherd_server.runs.random_names import random_name
from flowherd_server.store.microseconds import format_time
from flowherd_server.store.plain import StoredRow, plain
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW_GROUP

_SAME = "SELECT id FROM flow_run WHERE flow_id = ? AND idempotency_key = ?"
_TASKS = "SELECT id, cache_key FROM task WHERE flow_id = ?"


@dataclass(frozen=True, kw_only=True)
class FlowRunRequest:
    """What a new flow run should be; None means as the flow or its group says."""

    start_us: int
    parameters: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None
    run_config: Mapping[str, Any] | None = None
    name: str | None = None
    idempotency_key: str | None = None
    auto_scheduled: bool = False
    #: Id of the run that this one repeats.
    repeats: str | None = None


def create_flow_run(call: Call, flow: StoredRow, wanted: FlowRunRequest) -> str:
    """Create a Scheduled run of `flow` with its task runs, unless one has the same idempotency key. Returns its id.

    Raises Refused if a required parameter is missing.
    """
    if wanted.idempotency_key is not None:
        known = plain(call.connection).execute(_SAME, (flow["id"], wanted.idempotency_key)).fetchone()
        if known is not None:
            return str(known[0])
    group = row_by_id(call.connection, FLOW_GROUP, flow["flow_group_id"])
    row = _flow_run_columns(call, flow, group, wanted)
    scheduled = plain_state(
        RunState.SCHEDULED, "Flow run scheduled.", call.now, wanted.start_us, start_time=format_time(wanted.start_us)
    )
    enter_first_flow_run_state(call, row, scheduled)
    # One for each task, because the flow's process looks its tasks up by them.
    tasks = plain(call.connection).execute(_TASKS, (flow["id"],)).fetchall()
    create_task_runs(call, row["id"], tasks)
    return str(row["id"])


def missing_parameters(flow: StoredRow, given: Mapping[str, Any]) -> list[str]:
    """Return the names of parameters that the flow requires and `given` lacks."""
    return [p["name"] for p in flow["parameters"] if p.get("required") and p["name"] not in given]


def _flow_run_columns(call: Call, flow: StoredRow, group: StoredRow, wanted: FlowRunRequest) -> dict[str, Any]:
    parameters = {p["name"]: p["default"] for p in flow["parameters"] if p.get("default")}
    parameters = {**parameters, **group["default_parameters"], **(wanted.parameters or {})}
    missing = missing_parameters(flow, parameters)
    if missing:
        raise Refused(f"flow {flow['name']} needs parameters that were not given: {', '.join(sorted(missing))}")
    return {
        "id": str(uuid4()),
        "tenant_id": flow["tenant_id"],
        "flow_id": flow["id"],
        "name": wanted.name or random_name(),
        "parameters": parameters,
        "context": wanted.context,
        "labels": _labels(flow, group, wanted),
        "run_config": wanted.run_config or default_run_config(flow, group),
        "idempotency_key": wanted.idempotency_key,
        "auto_scheduled": wanted.auto_scheduled,
        "created_by": BY_SCHEDULE if wanted.auto_scheduled else call.caller.by or None,
        "repeats": wanted.repeats,
        "scheduled_start_time": wanted.start_us,
        "times_resurrected": 0,
        "created": call.now,
        **_ruled(flow, auto_scheduled=wanted.auto_scheduled),
    }


def _ruled(flow: StoredRow, *, auto_scheduled: bool) -> dict[str, Any]:
    """Return the columns of a run that its flow's rules concern; none for most runs."""
    value = flow["settings"].get(RULES_KEY)
    rules = rules_of(value)
    if value is None or not rules.concerns(auto_scheduled=auto_scheduled):
        return {}
    return {"rules": value, **({"attempt": 1} if rules.retries else {})}


def default_run_config(flow: StoredRow, group: StoredRow) -> Any:
    """Return the run config of a run for which none was chosen."""
    return group["run_config"] or flow["run_config"]


def default_labels(flow: StoredRow, group: StoredRow) -> list[str]:
    """Return the labels of a run for which none were chosen."""
    return _first_labels(
        group["labels"],
        (group["run_config"] or {}).get("labels"),
        (flow["run_config"] or {}).get("labels"),
        (flow["environment"] or {}).get("labels"),
    )


def _labels(flow: StoredRow, group: StoredRow, wanted: FlowRunRequest) -> list[str]:
    chosen = (wanted.labels, (wanted.run_config or {}).get("labels"))
    return default_labels(flow, group) if chosen == (None, None) else _first_labels(*chosen)


def _first_labels(*sources: Any) -> list[str]:
    """Return the labels from the first source that sets any; an empty list counts as set."""
    for labels in sources:
        if labels is not None:
            return normal_labels(check_labels("labels", list(labels)) or ())
    return []

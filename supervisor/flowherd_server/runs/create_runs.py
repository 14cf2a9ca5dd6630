"""Creating flow runs, for people and for schedules alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import RowMapping, insert, select

from flowherd.states import RunState
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Call
from flowherd_server.mutations.flow_document import check_labels
from flowherd_server.runs.create_task_runs import create_task_runs
from flowherd_server.runs.labels import normal_labels
from flowherd_server.runs.new_states import plain_state
from flowherd_server.runs.random_names import random_name
from flowherd_server.runs.state_changes import enter_state, flow_run_row
from flowherd_server.store.tables import FLOW_GROUP, FLOW_RUN, TASK
from flowherd_server.store.times import format_time


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a new flow run is to be; None is "as the flow says"."""

    start_us: int
    parameters: Mapping[str, Any] | None = None
    context: Mapping[str, Any] | None = None
    labels: Sequence[str] | None = None
    run_config: Mapping[str, Any] | None = None
    name: str | None = None
    idempotency_key: str | None = None
    auto_scheduled: bool = False


def create_run(call: Call, flow: RowMapping, wanted: Wanted) -> str:
    """A Scheduled run of `flow` with its task runs, or the run that has the same idempotency key; its id.

    Raises Refused when a required parameter is missing.
    """
    if wanted.idempotency_key is not None:
        same = select(FLOW_RUN.c.id).where(
            FLOW_RUN.c.flow_id == flow["id"], FLOW_RUN.c.idempotency_key == wanted.idempotency_key
        )
        known: str | None = call.connection.execute(same).scalar()
        if known is not None:
            return known
    group = flow_group_row(call, flow)
    row = _run_row(call, flow, group, wanted)
    call.connection.execute(insert(FLOW_RUN), row)
    # One for each task: the flow's process finds its tasks by them.
    tasks = call.connection.execute(select(TASK.c.id, TASK.c.cache_key).where(TASK.c.flow_id == flow["id"]))
    create_task_runs(call, row["id"], [(task.id, task.cache_key) for task in tasks])
    scheduled = plain_state(
        RunState.SCHEDULED, "Flow run scheduled.", call.now, wanted.start_us, start_time=format_time(wanted.start_us)
    )
    enter_state(call, flow_run_row(call, row["id"]), scheduled)
    return str(row["id"])


def flow_group_row(call: Call, flow: RowMapping) -> RowMapping:
    """The group of a flow's versions."""
    query = select(FLOW_GROUP).where(FLOW_GROUP.c.id == flow["flow_group_id"])
    return call.connection.execute(query).mappings().one()


def missing_parameters(flow: RowMapping, given: Mapping[str, Any]) -> list[str]:
    """Names of parameters that the flow requires and `given` lacks."""
    return [p["name"] for p in flow["parameters"] if p.get("required") and p["name"] not in given]


def _run_row(call: Call, flow: RowMapping, group: RowMapping, wanted: Wanted) -> dict[str, Any]:
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
        "run_config": wanted.run_config or group["run_config"] or flow["run_config"],
        "idempotency_key": wanted.idempotency_key,
        "auto_scheduled": wanted.auto_scheduled,
        "scheduled_start_time": wanted.start_us,
        "times_resurrected": 0,
        "created": call.now,
        # Version 0 is never seen: the run enters Scheduled, version 1, in the same transaction.
        "version": 0,
        "state": RunState.PENDING.value,
        "serialized_state": {"type": RunState.PENDING.value},
        "state_timestamp": call.now,
        "updated": call.now,
    }


def _labels(flow: RowMapping, group: RowMapping, wanted: Wanted) -> list[str]:
    """The first that says anything; an empty list says that there are none."""
    for labels in (
        wanted.labels,
        (wanted.run_config or {}).get("labels"),
        group["labels"],
        (group["run_config"] or {}).get("labels"),
        (flow["run_config"] or {}).get("labels"),
        (flow["environment"] or {}).get("labels"),
    ):
        if labels is not None:
            return normal_labels(check_labels("labels", list(labels)) or ())
    return []

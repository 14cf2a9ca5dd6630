"""Flow runs of schedules: created ahead of time, and deleted when the schedule is switched off or replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select

from flowherd.states import Event, RunState, after
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.runs.create_flow_runs import FlowRunRequest, create_flow_run, missing_parameters
from flowherd_server.runs.flow_run_states import enter_flow_run_state
from flowherd_server.runs.new_state import plain_state
from flowherd_server.schedules.schedule import Firing, clock_parameters, clocks_of, next_firings
from flowherd_server.store.microseconds import format_time
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN

_ACTIVE = (FLOW.c.is_schedule_active, ~FLOW.c.archived)


def schedule_of(call: Call, flow: RowMapping) -> dict[str, Any] | None:
    """Return the schedule that a flow follows: its group's, else its own."""
    schedule: dict[str, Any] | None = _group(call, flow)["schedule"] or flow["schedule"]
    return schedule


def check_parameters(call: Call, flow: RowMapping, schedule: Mapping[str, Any]) -> None:
    """Raise Refused if a clock's runs would lack a required parameter, even if its first time is far away."""
    defaults = _group(call, flow)["default_parameters"]
    for clock in clocks_of(schedule):
        missing = missing_parameters(flow, {**defaults, **clock_parameters(clock)})
        if missing:
            raise Refused(
                f"the schedule of flow {flow['name']} cannot be switched on: neither its clocks nor its group give "
                f"the required parameters {', '.join(sorted(missing))}"
            )


def _group(call: Call, flow: RowMapping) -> RowMapping:
    return row_by_id(call.connection, FLOW_GROUP, flow["flow_group_id"])


def active_flow_ids(connection: Connection) -> Sequence[str]:
    """Return the ids of flows whose schedule is switched on."""
    return connection.execute(select(FLOW.c.id).where(*_ACTIVE)).scalars().all()


def active_flow(connection: Connection, flow_id: str) -> RowMapping | None:
    """Return the flow if its schedule is switched on, else None."""
    return connection.execute(select(FLOW).where(FLOW.c.id == flow_id, *_ACTIVE)).mappings().first()


def create_auto_runs(call: Call, flow: RowMapping) -> list[Firing]:
    """Create the next runs of the flow's schedule. Returns its next firings, in order.

    Raises Refused if the schedule cannot be followed or one of its runs lacks a required parameter.
    """
    schedule = schedule_of(call, flow)
    if schedule is None:
        return []
    firings = next_firings(schedule, call.now, call.schedule_ahead)
    # Runs before the latest one were created by an earlier pass, and perhaps deleted by a person since. A firing at the
    # same time as the latest run may be another clock's; create_flow_run finds by its key whether it has a run already.
    latest_us = _latest_auto_run(call, flow["id"])
    for firing in firings:
        if firing.at_us >= latest_us:
            create_flow_run(call, flow, _request(firing))
    return firings


def _latest_auto_run(call: Call, flow_id: str) -> int:
    latest = select(func.max(FLOW_RUN.c.scheduled_start_time)).where(
        FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.auto_scheduled
    )
    return call.connection.execute(latest).scalar() or 0


def _request(firing: Firing) -> FlowRunRequest:
    return FlowRunRequest(
        start_us=firing.at_us,
        parameters=firing.parameters,
        labels=firing.labels,
        idempotency_key=_key(firing),
        auto_scheduled=True,
    )


def _key(firing: Firing) -> str:
    key = f"auto-scheduled:{format_time(firing.at_us)}"
    if firing.parameters is None and firing.labels is None:
        return key
    # Two clocks may fire at the same time with different parameters; those are two runs.
    settings = json.dumps([firing.parameters, firing.labels], sort_keys=True).encode()
    return f"{key}:{md5(settings, usedforsecurity=False).hexdigest()}"


def delete_auto_runs(call: Call, flow_id: str) -> None:
    """Delete the scheduled runs of a flow that its schedule created and that have not started."""
    call.connection.execute(
        delete(FLOW_RUN).where(
            FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.auto_scheduled, FLOW_RUN.c.state == RunState.SCHEDULED.value
        )
    )


def cancel_waiting_runs(call: Call, flow_id: str, message: str) -> None:
    """Cancel all Scheduled runs of a flow."""
    waiting = select(FLOW_RUN.c.id).where(FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.state == RunState.SCHEDULED.value)
    for flow_run_id in call.connection.execute(waiting).scalars().all():
        target = after(RunState.SCHEDULED, Event.REQUEST_CANCEL)
        enter_flow_run_state(
            call, row_by_id(call.connection, FLOW_RUN, flow_run_id), plain_state(target, message, call.now)
        )

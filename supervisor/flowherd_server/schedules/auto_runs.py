"""The runs that schedules ask for: made ahead of time, and taken back when a schedule stops."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import md5
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, select

from flowherd.states import Event, RunState, after
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Call
from flowherd_server.runs.create_runs import Wanted, create_run, flow_group_row, missing_parameters
from flowherd_server.runs.new_states import plain_state
from flowherd_server.runs.state_changes import enter_state, flow_run_row
from flowherd_server.schedules.schedule import Firing, clock_parameters, clocks_of, next_firings
from flowherd_server.store.tables import FLOW, FLOW_RUN
from flowherd_server.store.times import format_time

_ACTIVE = (FLOW.c.is_schedule_active, ~FLOW.c.archived)


def schedule_of(call: Call, flow: RowMapping) -> dict[str, Any] | None:
    """The schedule that counts for a flow: its group's, else its own."""
    schedule: dict[str, Any] | None = flow_group_row(call, flow)["schedule"] or flow["schedule"]
    return schedule


def check_parameters(call: Call, flow: RowMapping, schedule: Mapping[str, Any]) -> None:
    """Raises Refused when a clock's runs would lack a parameter, however far away the clock's first time is."""
    defaults = flow_group_row(call, flow)["default_parameters"]
    for clock in clocks_of(schedule):
        missing = missing_parameters(flow, {**defaults, **clock_parameters(clock)})
        if missing:
            raise Refused(
                f"the schedule of flow {flow['name']} cannot be switched on: neither its clocks nor its group give "
                f"the required parameters {', '.join(sorted(missing))}"
            )


def active_flow_ids(connection: Connection) -> Sequence[str]:
    """Flows whose schedule is switched on."""
    return connection.execute(select(FLOW.c.id).where(*_ACTIVE)).scalars().all()


def active_flow(connection: Connection, flow_id: str) -> RowMapping | None:
    """The flow, if its schedule is switched on."""
    return connection.execute(select(FLOW).where(FLOW.c.id == flow_id, *_ACTIVE)).mappings().first()


def create_auto_runs(call: Call, flow: RowMapping) -> list[Firing]:
    """Create the runs that the flow's schedule asks for next; its next firings, in order.

    Raises Refused when the schedule cannot be followed or a run of it lacks a parameter.
    """
    schedule = schedule_of(call, flow)
    if schedule is None:
        return []
    firings = next_firings(schedule, call.now, call.schedule_ahead)
    # What lies before the latest run was created by an earlier pass, or deleted by somebody since. A firing at its very
    # time may be another clock's; one that has its run already is recognised by its key.
    latest_us = _latest_auto_run(call, flow["id"])
    for firing in firings:
        if firing.at_us >= latest_us:
            create_run(call, flow, _wanted(firing))
    return firings


def _latest_auto_run(call: Call, flow_id: str) -> int:
    latest = select(func.max(FLOW_RUN.c.scheduled_start_time)).where(
        FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.auto_scheduled
    )
    return call.connection.execute(latest).scalar() or 0


def _wanted(firing: Firing) -> Wanted:
    return Wanted(
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
    # Two clocks may fire at one time with different parameters: these are two runs.
    told = json.dumps([firing.parameters, firing.labels], sort_keys=True).encode()
    return f"{key}:{md5(told, usedforsecurity=False).hexdigest()}"


def delete_auto_runs(call: Call, flow_id: str) -> None:
    """Take back the runs of a schedule that nobody has started."""
    call.connection.execute(
        delete(FLOW_RUN).where(
            FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.auto_scheduled, FLOW_RUN.c.state == RunState.SCHEDULED.value
        )
    )


def cancel_waiting_runs(call: Call, flow_id: str, message: str) -> None:
    """Cancel the Scheduled runs of a flow that people created."""
    waiting = select(FLOW_RUN.c.id).where(FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.state == RunState.SCHEDULED.value)
    for flow_run_id in call.connection.execute(waiting).scalars().all():
        target = after(RunState.SCHEDULED, Event.REQUEST_CANCEL)
        enter_state(call, flow_run_row(call, flow_run_id), plain_state(target, message, call.now))

"""Switching a flow's schedule on and off."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean
from sqlalchemy import update

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.schedules.auto_runs import check_parameters, create_auto_runs, delete_auto_runs, schedule_of
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW


def activate_schedule(call: Call, flow: StoredRow) -> bool:
    """Switch the flow's schedule on and create its first runs. Returns False if it has no schedule.

    Raises Refused if this server cannot follow the schedule, or its runs would lack a required parameter.
    """
    schedule = schedule_of(call.connection, flow)
    if schedule is None:
        return False
    check_parameters(call, flow, schedule)
    _set_active(call, flow["id"], True)
    create_auto_runs(call, flow)
    call.effects.schedules = True
    return True


def deactivate_schedule(call: Call, flow_id: str, *, keep_due: bool = False) -> None:
    """Switch the flow's schedule off and delete its runs that have not started; `keep_due`: except those that are due.

    A run that is due when another version replaces the flow would be lost: that version's schedule begins now.
    """
    _set_active(call, flow_id, False)
    delete_auto_runs(call, flow_id, keep_due=keep_due)


def _set_active(call: Call, flow_id: str, active: bool) -> None:
    changed: dict[str, Any] = {"is_schedule_active": active, "updated": call.now}
    changed |= {"schedule_by": call.caller.by or None, "schedule_since": call.now}
    call.connection.execute(update(FLOW).where(FLOW.c.id == flow_id), changed)


def _set_schedule_active(call: Call, given: Input) -> Mapping[str, Any]:
    flow = row_by_id(call.connection, FLOW, given["flow_id"])
    if flow["archived"]:
        raise Refused(f"flow {flow['id']} is archived, so its schedule cannot be switched on")
    return {"success": activate_schedule(call, flow)}


def _set_schedule_inactive(call: Call, given: Input) -> Mapping[str, Any]:
    deactivate_schedule(call, row_by_id(call.connection, FLOW, given["flow_id"])["id"])
    return {"success": True}


OPERATIONS = (
    Operation(
        name="set_schedule_active",
        arguments={"flow_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_set_schedule_active,
    ),
    Operation(
        name="set_schedule_inactive",
        arguments={"flow_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_set_schedule_inactive,
    ),
)

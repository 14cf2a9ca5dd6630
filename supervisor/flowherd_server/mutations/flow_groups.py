"""Settings of a flow group, for all versions of a flow: labels, run config, parameters, schedule, switches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphql import (
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
)
from graphql.type import GraphQLBoolean, GraphQLInt, GraphQLString
from sqlalchemy import select, update

from flowherd_server.call import Call
from flowherd_server.errors import Refused, not_found
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_document import optional_mapping
from flowherd_server.runs.flow_switches import HEARTBEAT, LAZARUS, VERSION_LOCKING, set_switch
from flowherd_server.runs.labels import check_labels, normal_labels
from flowherd_server.schedules.auto_runs import active_flow, create_auto_runs, delete_auto_runs
from flowherd_server.schedules.schedule import next_firings
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW, FLOW_GROUP


def _setting(column: str, argument: str, kind: GraphQLInputType, read: Callable[[Any], Any]) -> Operation:
    """Return the operation set_flow_group_COLUMN. `read` checks the value; null removes the setting."""

    def set_it(call: Call, given: Input) -> Mapping[str, Any]:
        _change(call, given["flow_group_id"], {column: read(given.get(argument))})
        return {"success": True}

    return Operation(
        name=f"set_flow_group_{column}",
        arguments={"flow_group_id": GraphQLNonNull(UUID_INPUT), argument: kind},
        answer={"success": GraphQLBoolean},
        handle=set_it,
    )


def _change(call: Call, flow_group_id: str, columns: Mapping[str, Any]) -> None:
    changed = update(FLOW_GROUP).where(FLOW_GROUP.c.id == flow_group_id)
    if not call.connection.execute(changed, columns).rowcount:
        raise not_found("flow group", flow_group_id)


def _labels(value: list[str] | None) -> list[str] | None:
    return None if value is None else normal_labels(value)


def _run_config(value: Any) -> dict[str, Any] | None:
    run_config = optional_mapping("run_config", value)
    check_labels("run_config.labels", (run_config or {}).get("labels"))
    return run_config


def _parameters(value: Any) -> dict[str, Any]:
    return optional_mapping("parameters", value) or {}


def _set_schedule(call: Call, given: Input) -> Mapping[str, Any]:
    schedule = {"type": "Schedule", "clocks": _clocks(call, given)}
    if not schedule["clocks"]:
        raise Refused("a schedule needs at least one clock; use delete_flow_group_schedule to remove it")
    next_firings(schedule, call.now, 1)  # raises Refused if it cannot be followed
    _change(call, given["flow_group_id"], {"schedule": schedule})
    _schedule_anew(call, given["flow_group_id"])
    return {"success": True}


def _clocks(call: Call, given: Input) -> list[dict[str, Any]]:
    """Return the clocks in the form of a flow's own schedule, where the time zone is that of the start date."""
    zone = given.get("timezone")
    now = to_datetime(call.now).replace(tzinfo=None).isoformat()
    start = {"start_date": None if zone is None else {"dt": now, "tz": zone}}
    cron = [{"type": "CronClock", **start, **clock} for clock in given.get("cron_clocks") or ()]
    interval = [
        {"type": "IntervalClock", **start, **clock, "interval": clock["interval"] * SECOND_US}
        for clock in given.get("interval_clocks") or ()
    ]
    return cron + interval


def _delete_schedule(call: Call, given: Input) -> Mapping[str, Any]:
    """Delete the group's schedule, so that flows follow their own one again."""
    _change(call, given["flow_group_id"], {"schedule": None})
    _schedule_anew(call, given["flow_group_id"])
    return {"success": True}


def _schedule_anew(call: Call, flow_group_id: str) -> None:
    """Replace the runs of the previous schedule that have not started by runs of the one that counts now."""
    flows = call.connection.execute(select(FLOW.c.id).where(FLOW.c.flow_group_id == flow_group_id)).scalars().all()
    for flow_id in flows:
        delete_auto_runs(call, flow_id)
        flow = active_flow(call.connection, flow_id)
        if flow is not None:
            create_auto_runs(call, flow)
    call.effects.schedules = True


def _switch(name: str, setting: str, enabled: bool) -> Operation:
    """Return the operation that sets a switch of the group that a flow belongs to."""

    def turn_it(call: Call, given: Input) -> Mapping[str, Any]:
        flow = row_by_id(call.connection, FLOW, given["flow_id"])
        set_switch(call, flow["flow_group_id"], setting, enabled)
        return {"success": True}

    return Operation(
        name=f"{'enable' if enabled else 'disable'}_{name}",
        arguments={"flow_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=turn_it,
    )


_LABELS = GraphQLList(GraphQLNonNull(GraphQLString))
_EACH_CLOCK = {"parameter_defaults": GraphQLInputField(JSON_INPUT), "labels": GraphQLInputField(_LABELS)}
_CRON_CLOCK = GraphQLInputObjectType(
    "cron_clock_input",
    {
        "cron": GraphQLInputField(GraphQLNonNull(GraphQLString)),
        "day_or": GraphQLInputField(GraphQLBoolean),
        **_EACH_CLOCK,
    },
)
_INTERVAL_CLOCK = GraphQLInputObjectType(
    "interval_clock_input",
    {"interval": GraphQLInputField(GraphQLNonNull(GraphQLInt), description="Seconds."), **_EACH_CLOCK},
)
_SWITCHES = (
    ("flow_heartbeat", HEARTBEAT),
    ("flow_lazarus_process", LAZARUS),
    ("flow_version_lock", VERSION_LOCKING),
)

OPERATIONS = (
    _setting("labels", "labels", _LABELS, _labels),
    _setting("run_config", "run_config", JSON_INPUT, _run_config),
    _setting("default_parameters", "parameters", JSON_INPUT, _parameters),
    _setting("description", "description", GraphQLString, lambda value: value),
    Operation(
        name="set_flow_group_schedule",
        arguments={
            "flow_group_id": GraphQLNonNull(UUID_INPUT),
            "cron_clocks": GraphQLList(GraphQLNonNull(_CRON_CLOCK)),
            "interval_clocks": GraphQLList(GraphQLNonNull(_INTERVAL_CLOCK)),
            "timezone": GraphQLString,
        },
        answer={"success": GraphQLBoolean},
        handle=_set_schedule,
    ),
    Operation(
        name="delete_flow_group_schedule",
        arguments={"flow_group_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete_schedule,
    ),
    *(_switch(name, setting, enabled) for name, setting in _SWITCHES for enabled in (True, False)),
)

"""Flow runs of schedules: created ahead of time, and deleted when the schedule is switched off or replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from hashlib import md5
from typing import Any

from sqlalchemy import Connection, delete, select, text, update

from flowherd.flow_rules import CatchUp
from flowherd.states import Event, RunState, after
from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.rules.decide import IN_TIME_US
from flowherd_server.rules.settle import rules_of
from flowherd_server.runs.create_flow_runs import FlowRunRequest, create_flow_run, missing_parameters
from flowherd_server.runs.flow_run_states import enter_flow_run_state
from flowherd_server.runs.new_state import plain_state
from flowherd_server.schedules.make_up import missed_firings, rules_of_flow
from flowherd_server.schedules.schedule import Firing, clock_parameters, clocks_of, has_ended, next_firings
from flowherd_server.store.indexes import FOLLOWS_SCHEDULE, IS_HELD, IS_SCHEDULED, IS_TRIED_AGAIN
from flowherd_server.store.microseconds import SECOND_US, format_time, to_us
from flowherd_server.store.notification_tables import is_anything_notified, store_missed
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN

_ACTIVE = text(FOLLOWS_SCHEDULE)
#: Prefix of the idempotency keys of runs that schedules create.
_KEY_PREFIX = "auto-scheduled:"
#: When to look again for runs of a schedule that gives none at present, and of one that cannot be followed; the
#: interval of the dialect's real server.
LOOK_AGAIN_AFTER_US = 150 * SECOND_US
#: Most times of a schedule that are counted as missed.
_MOST_MISSED = 1000
#: Time that never comes, for a schedule that has ended.
_NEVER_US = to_us(datetime.max.replace(tzinfo=timezone.utc))


def schedule_of(connection: Connection, flow: StoredRow) -> dict[str, Any] | None:
    """Return the schedule that a flow follows: its group's, else its own."""
    schedule: dict[str, Any] | None = _group(connection, flow)["schedule"] or flow["schedule"]
    return schedule


def check_parameters(call: Call, flow: StoredRow, schedule: Mapping[str, Any]) -> None:
    """Raise Refused if a clock's runs would lack a required parameter, even if its first time is far away."""
    defaults = _group(call.connection, flow)["default_parameters"]
    for clock in clocks_of(schedule):
        missing = missing_parameters(flow, {**defaults, **clock_parameters(clock)})
        if missing:
            raise Refused(
                f"the schedule of flow {flow['name']} cannot be switched on: neither its clocks nor its group give "
                f"the required parameters {', '.join(sorted(missing))}"
            )


def _group(connection: Connection, flow: StoredRow) -> StoredRow:
    return row_by_id(connection, FLOW_GROUP, flow["flow_group_id"])


def due_flow_ids(connection: Connection, now: int) -> Sequence[str]:
    """Return the ids of flows whose schedule is switched on and needs more runs."""
    # Each flow is found once, because null sorts first and is due.
    unknown = select(FLOW.c.id).where(_ACTIVE, FLOW.c.schedule_due.is_(None))
    due = select(FLOW.c.id).where(_ACTIVE, FLOW.c.schedule_due <= now)
    return [flow_id for query in (unknown, due) for flow_id in connection.execute(query).scalars()]


def next_due(connection: Connection) -> int | None:
    """Return when the next schedule needs more runs, or None if none does."""
    query = select(FLOW.c.schedule_due).where(_ACTIVE, FLOW.c.schedule_due.is_not(None))
    due: int | None = connection.execute(query.order_by(FLOW.c.schedule_due).limit(1)).scalar()
    return due


def look_again(connection: Connection, flow_id: str, at_us: int) -> None:
    """Store when the flow's schedule needs more runs."""
    connection.execute(update(FLOW).where(FLOW.c.id == flow_id), {"schedule_due": at_us})


def active_flow(connection: Connection, flow_id: str) -> StoredRow | None:
    """Return the flow if its schedule is switched on, else None."""
    return connection.execute(select(FLOW).where(FLOW.c.id == flow_id, _ACTIVE)).mappings().first()


def create_auto_runs(call: Call, flow: StoredRow, *, make_up: bool = False) -> None:
    """Create the next runs of the flow's schedule; with `make_up` also those that its rules want of the time since the
    latest one, in which no server has run.

    Raises Refused if the schedule cannot be followed or one of its runs lacks a required parameter.
    """
    schedule = schedule_of(call.connection, flow)
    if schedule is None:
        look_again(call.connection, flow["id"], _NEVER_US)
        return
    firings = next_firings(schedule, call.now, call.schedule_ahead)
    # Runs before the latest one were created by an earlier pass, and perhaps deleted by a person since. A firing at the
    # same time as the latest run may be another clock's; create_flow_run finds by its key whether it has a run already.
    latest_us = _latest_auto_run(call, flow["id"])
    missed = missed_firings(schedule, rules_of_flow(flow), latest_us, call.now) if make_up and latest_us else []
    if make_up and latest_us:
        _note_missed(call, flow["id"], schedule, latest_us, made_up=len(missed))
    for firing in (*missed, *firings):
        if firing.at_us >= latest_us:
            create_flow_run(call, flow, _request(firing))
    if firings:
        due_us = firings[len(firings) // 2].at_us  # when half of them have started
    else:
        due_us = _NEVER_US if has_ended(schedule, call.now) else call.now + LOOK_AGAIN_AFTER_US
    look_again(call.connection, flow["id"], due_us)


def _note_missed(call: Call, flow_id: str, schedule: Mapping[str, Any], after_us: int, *, made_up: int) -> None:
    """Note the times since the latest run that none will be made up for, if somebody wants to be notified of them."""
    if after_us >= call.now or not is_anything_notified(call.connection):
        return
    passed = [each.at_us for each in next_firings(schedule, after_us, _MOST_MISSED) if each.at_us <= call.now]
    if len(passed) > made_up:
        text = "No server was running at the time."
        store_missed(call.connection, flow_id, passed[0], len(passed) - made_up, text)
        call.effects.notifications = True


def lacks_a_later_run(call: Call, run: StoredRow) -> bool:
    """Return whether a run of a schedule is not the latest that was missed: one that is later is still to be created.

    That is so for a moment after the server was away for long.
    """
    rules = rules_of(run["rules"])
    is_late = run["state"] == RunState.SCHEDULED and run["state_start_time"] < call.now - IN_TIME_US
    if not (is_late and run["auto_scheduled"] and run["start_time"] is None and rules.catch_up is CatchUp.LAST):
        return False
    flow = active_flow(call.connection, run["flow_id"])
    schedule = None if flow is None else schedule_of(call.connection, flow)
    if flow is None or schedule is None or (flow["schedule_due"] or 0) > call.now:
        return False  # the scheduler has nothing to create at present
    return bool(missed_firings(schedule, rules, _latest_auto_run(call, run["flow_id"]), call.now))


def _latest_auto_run(call: Call, flow_id: str) -> int:
    # By their keys, which begin with their times, because the flow may have any number of other runs.
    key = FLOW_RUN.c.idempotency_key
    query = select(FLOW_RUN.c.scheduled_start_time).where(
        FLOW_RUN.c.flow_id == flow_id, key >= _KEY_PREFIX, key < _KEY_PREFIX + "~", FLOW_RUN.c.auto_scheduled
    )
    latest: int | None = call.connection.execute(query.order_by(key.desc()).limit(1)).scalar()
    return latest or 0


def _request(firing: Firing) -> FlowRunRequest:
    return FlowRunRequest(
        start_us=firing.at_us,
        parameters=firing.parameters,
        labels=firing.labels,
        idempotency_key=_key(firing),
        auto_scheduled=True,
    )


def _key(firing: Firing) -> str:
    key = f"{_KEY_PREFIX}{format_time(firing.at_us)}"
    if firing.parameters is None and firing.labels is None:
        return key
    # Two clocks may fire at the same time with different parameters; those are two runs.
    settings = json.dumps([firing.parameters, firing.labels], sort_keys=True).encode()
    return f"{key}:{md5(settings, usedforsecurity=False).hexdigest()}"


def delete_auto_runs(call: Call, flow_id: str, *, keep_due: bool = False) -> None:
    """Delete the runs of a flow that its schedule created and that have not started; `keep_due`: only later ones."""
    of_schedule = FLOW_RUN.c.flow_id == flow_id, FLOW_RUN.c.auto_scheduled
    if keep_due:
        later = text(IS_SCHEDULED), FLOW_RUN.c.state_start_time > call.now
        call.connection.execute(delete(FLOW_RUN).where(*of_schedule, *later))
        return
    for condition in (IS_SCHEDULED, IS_HELD):  # each has an index
        call.connection.execute(delete(FLOW_RUN).where(*of_schedule, text(condition)))


def cancel_waiting_runs(call: Call, flow_id: str, message: str) -> int:
    """Cancel all runs of a flow that are Scheduled, held back, or wait for their next attempt. Returns how many."""
    cancelled = 0
    for condition in (IS_HELD, IS_TRIED_AGAIN, IS_SCHEDULED):
        waiting = select(FLOW_RUN.c.id).where(FLOW_RUN.c.flow_id == flow_id, text(condition))
        for flow_run_id in call.connection.execute(waiting).scalars().all():
            run = row_by_id(call.connection, FLOW_RUN, flow_run_id)
            target = after(RunState(run["state"]), Event.REQUEST_CANCEL)
            enter_flow_run_state(call, run, plain_state(target, message, call.now))
            cancelled += 1
    return cancelled

"""Creating the next runs of schedules. A pass costs what is due, however many schedules there are."""

from __future__ import annotations

from loguru import logger

from flowherd_server.call import Call, Caller, Effects
from flowherd_server.errors import Refused
from flowherd_server.schedules.auto_runs import (
    LOOK_AGAIN_AFTER_US,
    active_flow,
    create_auto_runs,
    due_flow_ids,
    look_again,
    next_due,
)
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us

#: Longest pause between two passes, seconds, because the wall clock may be set meanwhile. New and changed schedules do
#: not wait for it.
_LONGEST_PAUSE_S = 150.0
_SHORTEST_PAUSE_S = 0.5


def schedule_due(database: Database, ahead: int, *, make_up: bool = True) -> tuple[Effects, float]:
    """Create the next runs of all schedules that are due, with `make_up` also those that were missed (make_up.py).

    Returns whom to wake, and seconds until the next pass.

    A schedule that cannot be followed is logged, and the others are followed all the same.
    """
    effects = Effects()
    with database.reading() as connection:
        flow_ids = due_flow_ids(connection, now_us())
    for flow_id in flow_ids:
        try:
            _schedule_one(database, flow_id, ahead, effects, make_up=make_up)
        except Refused as error:
            logger.warning("the schedule of flow {} cannot be followed: {}", flow_id, error)
            with database.writing() as connection:
                look_again(connection, flow_id, now_us() + LOOK_AGAIN_AFTER_US)
    with database.reading() as connection:
        due_us = next_due(connection)
    pause_s = _LONGEST_PAUSE_S if due_us is None else (due_us - now_us()) / SECOND_US
    return effects, min(max(pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S)


def _schedule_one(database: Database, flow_id: str, ahead: int, effects: Effects, *, make_up: bool) -> None:
    """Create one flow's next runs in a transaction of their own."""
    with database.writing() as connection:
        call = Call(connection, Caller(), now_us(), ahead)
        # None if it was archived or switched off since the list was made; its runs were deleted then and must stay so.
        flow = active_flow(connection, flow_id)
        if flow is not None:
            create_auto_runs(call, flow, make_up=make_up)
    effects.add(call.effects)

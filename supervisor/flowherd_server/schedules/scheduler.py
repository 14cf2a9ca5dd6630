"""Creating the next runs of all active schedules in one pass."""

from __future__ import annotations

from loguru import logger

from flowherd_server.call import Call, Caller, Effects
from flowherd_server.errors import Refused
from flowherd_server.schedules.auto_runs import active_flow, active_flow_ids, create_auto_runs
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us

#: Interval of the dialect's real server, seconds. New and changed schedules do not wait for it.
_LONGEST_PAUSE_S = 150.0
_SHORTEST_PAUSE_S = 0.5


def schedule_all(database: Database, ahead: int) -> tuple[Effects, float]:
    """Create the next runs of all active schedules. Returns whom to wake, and seconds until the next pass.

    A schedule that cannot be followed is logged, and the others are followed all the same.
    """
    effects, pause_s = Effects(), _LONGEST_PAUSE_S
    with database.reading() as connection:
        flow_ids = active_flow_ids(connection)
    for flow_id in flow_ids:
        try:
            pause_s = min(pause_s, _schedule_one(database, flow_id, ahead, effects))
        except Refused as error:
            logger.warning("the schedule of flow {} cannot be followed: {}", flow_id, error)
    return effects, max(pause_s, _SHORTEST_PAUSE_S)


def _schedule_one(database: Database, flow_id: str, ahead: int, effects: Effects) -> float:
    """Create one flow's next runs in a transaction of their own. Returns seconds until half of them have started."""
    with database.writing() as connection:
        call = Call(connection, Caller(), now_us(), ahead)
        # None if it was archived or switched off since the list was made; its runs were deleted then and must stay so.
        flow = active_flow(connection, flow_id)
        firings = [] if flow is None else create_auto_runs(call, flow)
    effects.due.extend(call.effects.due)
    return (firings[len(firings) // 2].at_us - call.now) / SECOND_US if firings else _LONGEST_PAUSE_S

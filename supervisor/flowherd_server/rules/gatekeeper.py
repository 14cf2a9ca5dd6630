"""Decides about runs whose flow has rules when they become due, whether an agent asks for them or not.

A claim decides for itself (settle.why_not_now), so nothing depends on this being quick; but a run that is skipped shows
as Skipped at its time, and a run that replaces another need not wait for an agent with room.
"""

from __future__ import annotations

from loguru import logger
from sqlalchemy.exc import SQLAlchemyError

from flowherd_server.call import Call, Caller, Effects
from flowherd_server.rules.settle import (
    decisions_for,
    flows_to_settle,
    flows_with_held_runs,
    next_look,
    settle_flow,
)
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us

#: Longest pause between two looks, seconds, because the wall clock may be set meanwhile; and shortest one.
_LONGEST_PAUSE_S = 60.0
#: Longest pause while a run is held back: what it waits for may end without rules of its own, or be deleted.
_HOLDING_PAUSE_S = 2.0
_SHORTEST_PAUSE_S = 0.001


class Gatekeeper:
    """Looks after the flows with rules. `look` is for one thread at a time; `is_waited_for` for any."""

    def __init__(self, database: Database, schedule_ahead: int) -> None:
        self._database = database
        self._schedule_ahead = schedule_ahead
        #: Until when all that became due is decided about, microseconds since the epoch.
        self._until_us = 0
        #: When the next look is due.
        self._next_us = 0

    def is_waited_for(self, effects: Effects) -> bool:
        """Return whether a look is due sooner than planned because of the effects of a transaction."""
        return bool(effects.ruled) and min(effects.ruled) < self._next_us

    def look(self) -> tuple[Effects, float]:
        """Decide about what has become due. Returns whom to wake, and the pause until the next look, seconds."""
        effects, now = Effects(), now_us()
        # Until the pause is known, every run that becomes due is a reason to look again.
        self._next_us = now + round(_LONGEST_PAUSE_S * SECOND_US)
        with self._database.reading() as connection:
            flow_ids = flows_to_settle(connection, self._until_us, now)
            flow_ids = [flow_id for flow_id in flow_ids if decisions_for(connection, flow_id, now)]
        for flow_id in flow_ids:
            self._settle(flow_id, effects)
        self._until_us = now
        with self._database.reading() as connection:
            holds_runs = bool(flows_with_held_runs(connection))
            next_us = next_look(connection, now)
        latest_us = now + round((_HOLDING_PAUSE_S if holds_runs else _LONGEST_PAUSE_S) * SECOND_US)
        self._next_us = latest_us if next_us is None else min(latest_us, next_us)
        return effects, max((self._next_us - now_us()) / SECOND_US, _SHORTEST_PAUSE_S)

    def _settle(self, flow_id: str, effects: Effects) -> None:
        try:
            with self._database.writing() as connection:
                call = Call(connection, Caller(), now_us(), self._schedule_ahead)
                settle_flow(call, flow_id)
        except SQLAlchemyError:
            raise
        except Exception:  # one flow must not end the decisions about all others
            logger.exception("cannot decide about the runs of flow {} that are due", flow_id)
        else:
            effects.add(call.effects)

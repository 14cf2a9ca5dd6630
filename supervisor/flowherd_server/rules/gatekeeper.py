"""Decides about runs whose flow has rules when they become due, whether an agent asks for them or not.

A claim decides for itself (settle.why_not_now), so nothing depends on this being quick; but a run that is skipped shows
as Skipped at its time, and a run that replaces another need not wait for an agent with room.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

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
    """Looks after the flows with rules. `look` is for one thread at a time; `has_news` for any.

    `clock` returns the present, microseconds since the epoch.
    """

    def __init__(self, database: Database, schedule_ahead: int, clock: Callable[[], int] = now_us) -> None:
        self._database = database
        self._schedule_ahead = schedule_ahead
        self._clock = clock
        self._lock = threading.Lock()
        #: Until when all that became due is decided about, microseconds since the epoch.
        self._until_us = 0
        #: When the next look is due.
        self._next_us = 0

    def has_news(self, effects: Effects) -> bool:
        """Note the effects of a transaction. Returns whether a look is due sooner than planned because of them."""
        if not effects.ruled:
            return False
        due_us = min(effects.ruled)
        with self._lock:
            self._until_us = min(self._until_us, due_us - 1)  # a run may be created when its time is over
        return due_us < self._next_us

    def look(self) -> tuple[Effects, float]:
        """Decide about what has become due. Returns whom to wake, and the pause until the next look, seconds."""
        effects, now = Effects(), self._clock()
        # Until the pause is known, every run that becomes due is a reason to look again.
        self._next_us = now + round(_LONGEST_PAUSE_S * SECOND_US)
        with self._lock:
            since_us, self._until_us = self._until_us, now
        try:
            with self._database.reading() as connection:
                flow_ids = flows_to_settle(connection, since_us, now)
                flow_ids = [flow_id for flow_id in flow_ids if decisions_for(connection, flow_id, now)]
            for flow_id in flow_ids:
                self._settle(flow_id, effects)
            with self._database.reading() as connection:
                holds_runs, next_us = bool(flows_with_held_runs(connection)), next_look(connection, now)
        except SQLAlchemyError:
            with self._lock:
                self._until_us = min(self._until_us, since_us)
            raise
        latest_us = now + round((_HOLDING_PAUSE_S if holds_runs else _LONGEST_PAUSE_S) * SECOND_US)
        self._next_us = latest_us if next_us is None else min(latest_us, next_us)
        return effects, max((self._next_us - self._clock()) / SECOND_US, _SHORTEST_PAUSE_S)

    def _settle(self, flow_id: str, effects: Effects) -> None:
        try:
            with self._database.writing() as connection:
                call = Call(connection, Caller(), self._clock(), self._schedule_ahead)
                settle_flow(call, flow_id)
        except SQLAlchemyError:
            raise
        except Exception:  # one flow must not end the decisions about all others
            logger.exception("cannot decide about the runs of flow {} that are due", flow_id)
        else:
            effects.add(call.effects)

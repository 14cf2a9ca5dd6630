"""Which running runs count as stuck: from what agents report, what is usual, and what their flows say."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from flowherd.flow_rules import RULES_KEY
from flowherd.story.stuck import may_be_stuck, stuck_reason
from flowherd_server.runs.live_board import LiveBoard
from flowherd_server.runs.usual_durations import UsualDurations
from flowherd_server.store.microseconds import to_datetime
from flowherd_server.store.tables import FLOW

#: How long it is remembered what a flow says, seconds, and of how many flows.
_KEEP_S, _MOST_FLOWS = 60.0, 1000


class StuckRuns:
    """Reads what agents have reported. Usable from any thread."""

    def __init__(self, live: LiveBoard, usual: UsualDurations) -> None:
        self._live = live
        self._usual = usual
        self._lock = threading.Lock()
        #: Whether runs of a flow never count as stuck, and until when that is known (monotonic).
        self._never: dict[str, tuple[bool, float]] = {}

    def reason(self, connection: Connection, run: Mapping[str, Any] | RowMapping, now: datetime) -> str:
        """Return why a run counts as stuck; empty if it does not.

        `run` has its columns id, state, state_timestamp and flow_id. Reads the database only if it may be stuck.
        """
        figures = self._live.figures(run["id"])
        if not may_be_stuck(run["state"], figures) or self._is_never(connection, run["flow_id"]):
            return ""
        usual_s = self._usual.of_flow(connection, run["flow_id"])
        return stuck_reason(run["state"], to_datetime(run["state_timestamp"]), figures, usual_s, now)

    def _is_never(self, connection: Connection, flow_id: str) -> bool:
        now_s = time.monotonic()
        with self._lock:
            is_never, until_s = self._never.get(flow_id, (False, 0.0))
        if until_s > now_s:
            return is_never
        settings = connection.execute(select(FLOW.c.settings).where(FLOW.c.id == flow_id)).scalar() or {}
        is_never = (settings.get(RULES_KEY) or {}).get("never_stuck") is True
        with self._lock:
            if len(self._never) > _MOST_FLOWS:
                self._never.clear()
            self._never[flow_id] = is_never, now_s + _KEEP_S
        return is_never

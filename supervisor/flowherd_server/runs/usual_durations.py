"""How long the runs of a flow usually take, as of a short time ago."""

from __future__ import annotations

import threading
import time

from sqlalchemy import Connection, select

from flowherd.states import SUCCESSFUL, RunState
from flowherd.story.usual import LOOKED_AT, usual_s
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.tables import FLOW, FLOW_RUN

#: How long an answer is used again, seconds.
_KEEP_S = 60.0
#: Number of a flow's newest versions, and of the newest runs of each, that are looked at.
_VERSIONS, _READ = 3, 200
_GOOD = frozenset(SUCCESSFUL - {RunState.SKIPPED})


class UsualDurations:
    """Usual durations by flow. Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, float | None]] = {}

    def of_flow(self, connection: Connection, flow_id: str) -> float | None:
        """Return the usual duration of the flow's runs, whatever their version, seconds; None if too few went well."""
        now_s = time.monotonic()
        with self._lock:
            known = self._known.get(flow_id)
        if known is not None and known[0] > now_s:
            return known[1]
        found = _usual_s(connection, flow_id)
        with self._lock:
            if len(self._known) > 1000:
                self._known.clear()
            self._known[flow_id] = now_s + _KEEP_S, found
        return found


def _usual_s(connection: Connection, flow_id: str) -> float | None:
    group = select(FLOW.c.flow_group_id).where(FLOW.c.id == flow_id).scalar_subquery()
    versions = select(FLOW.c.id).where(FLOW.c.flow_group_id == group).order_by(FLOW.c.version.desc()).limit(_VERSIONS)
    runs: list[tuple[int, int]] = []
    for one in connection.execute(versions).scalars().all():
        # In the order of an index, which has no state: the newest are read, and of these the good ones taken.
        newest = select(FLOW_RUN.c.state, FLOW_RUN.c.start_time, FLOW_RUN.c.end_time).where(FLOW_RUN.c.flow_id == one)
        rows = connection.execute(newest.order_by(FLOW_RUN.c.start_time.desc()).limit(_READ))
        runs += [
            (row.start_time, row.end_time)
            for row in rows
            if row.state in _GOOD and row.start_time is not None and row.end_time is not None
        ]
        if len(runs) >= LOOKED_AT:
            break
    runs.sort(reverse=True)
    return usual_s([(end - start) / SECOND_US for start, end in runs])

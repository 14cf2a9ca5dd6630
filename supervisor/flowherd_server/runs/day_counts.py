"""How many runs ended in the last 24 hours, by half hour: well, badly, cancelled; as of a few seconds ago."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from sqlalchemy import Connection, func, select

from flowherd.states import FINISHED, SUCCESSFUL, RunState
from flowherd.story.order import BAD
from flowherd_server.store.microseconds import SECOND_US
from flowherd_server.store.tables import FLOW_RUN

COLUMNS, COLUMN_US = 48, 1800 * SECOND_US
#: How long an answer is used again, seconds: among 100,000 runs it costs some milliseconds.
_KEEP_S = 5.0


@dataclass(frozen=True)
class Day:
    """The last 24 hours, in half hours of the clock, the oldest first."""

    #: Well, badly, otherwise.
    columns: tuple[tuple[int, int, int], ...] = field(default=((0, 0, 0),) * COLUMNS)

    @property
    def well(self) -> int:
        """Number of runs that went well."""
        return sum(column[0] for column in self.columns)

    @property
    def badly(self) -> int:
        """Number of runs that failed."""
        return sum(column[1] for column in self.columns)

    @property
    def cancelled(self) -> int:
        """Number of runs that were cancelled, or ended in another way."""
        return sum(column[2] for column in self.columns)


class DayCounts:
    """Counts them. Usable from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._until_s, self._day = 0.0, Day()

    def of_last_day(self, connection: Connection, now_us: int) -> Day:
        """Return the counts."""
        with self._lock:
            if time.monotonic() >= self._until_s:
                self._day, self._until_s = _count(connection, now_us), time.monotonic() + _KEEP_S
            return self._day


def _count(connection: Connection, now_us: int) -> Day:
    last = now_us // COLUMN_US
    first = last - COLUMNS + 1
    column = (FLOW_RUN.c.end_time // COLUMN_US).label("column")
    # By state and time, which an index has.
    ended = FLOW_RUN.c.state.in_(sorted(FINISHED | BAD)), FLOW_RUN.c.end_time >= first * COLUMN_US
    query = select(FLOW_RUN.c.state, column, func.count()).where(*ended).group_by(FLOW_RUN.c.state, column)
    counts = [[0, 0, 0] for _ in range(COLUMNS)]
    for state, at, number in connection.execute(query):
        kind = 0 if state in SUCCESSFUL or state in (RunState.FINISHED, RunState.LOOPED) else 1 if state in BAD else 2
        counts[min(COLUMNS - 1, max(0, int(at) - first))][kind] += number
    return Day(tuple((well, badly, other) for well, badly, other in counts))

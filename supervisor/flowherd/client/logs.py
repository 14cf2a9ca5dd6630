"""Reading the log of one flow run onwards, each line once, while lines are still being added.

Lines do not always arrive in the order of their times: an agent's own line can be there before a line that the run
printed earlier. flowherd's server numbers lines as they arrive, so what is there at the first look is read by time,
and what comes later by number. Other servers give no such number; there, the last seconds are looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import Word, arguments
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.errors import BackendUnavailable

#: Lines asked for at once.
PAGE = 1000
#: Where lines have no numbers: a line that arrives later than this after one with a later time is missed.
OVERLAP_S = 10.0

_FIELDS = "id timestamp name level message info"


@dataclass(frozen=True, kw_only=True)
class LogView:
    """One line of a run's log."""

    id: str
    at: datetime
    #: "stdout", "stderr", "log" or "flowherd"; "log" where the server does not tell.
    stream: str
    #: A logging level's name.
    level: str
    logger: str
    message: str


class RunLog:
    """The log of one flow run, read onwards."""

    def __init__(self, transport: GraphQLTransport, run_id: str, *, numbered: bool) -> None:
        self._transport = transport
        self._run_id = run_id
        self._numbered = numbered
        #: With numbers: the last line that was there at the first look; what comes behind it is read by number.
        self._snapshot: int | None = None
        self._last_number: int | None = None
        #: By time: the last line's, and the lines near it that have been read.
        self._at: datetime | None = None
        self._near: dict[str, datetime] = {}

    def next_lines(self) -> list[LogView]:
        """Some lines that were not returned before; none when there are no more now."""
        if self._last_number is not None:
            return self._by_number(self._last_number)
        if self._numbered and self._snapshot is None:
            self._snapshot = self._newest_number()
        lines = self._by_time()
        if not lines and self._snapshot is not None:
            self._last_number, self._near = self._snapshot, {}
            return self._by_number(self._last_number)
        return lines

    def _newest_number(self) -> int:
        rows = self._rows({}, {"id": Word("desc")}, 1)
        return int(rows[0]["id"]) if rows else 0

    def _by_number(self, last: int) -> list[LogView]:
        rows = self._rows({"id": {"_gt": last}}, {"id": Word("asc")}, PAGE)
        if rows:
            self._last_number = int(rows[-1]["id"])
        return [_view(row) for row in rows]

    def _by_time(self) -> list[LogView]:
        where: dict[str, Any] = {}
        # A snapshot does not change any more, so only lines of the very same time can straddle two pages.
        overlap = timedelta() if self._snapshot is not None else timedelta(seconds=OVERLAP_S)
        if self._snapshot is not None:
            where["id"] = {"_lte": self._snapshot}
        if self._at is not None:
            where["timestamp"] = {"_gte": (self._at - overlap).isoformat()}
        rows = self._rows(where, {"timestamp": Word("asc")}, PAGE + len(self._near))
        lines = [view for view in map(_view, rows) if view.id not in self._near]
        self._remember(lines, overlap)
        return lines

    def _remember(self, lines: list[LogView], overlap: timedelta) -> None:
        self._near |= {line.id: line.at for line in lines}
        self._at = max([line.at for line in lines] + ([self._at] if self._at else []), default=None)
        if self._at is not None:
            since = self._at - overlap
            self._near = {line: at for line, at in self._near.items() if at >= since}

    def _rows(self, where: Mapping[str, Any], order: Mapping[str, Any], limit: int) -> list[dict[str, Any]]:
        given = arguments(where={"flow_run_id": {"_eq": self._run_id}, **where}, order_by=order, limit=limit)
        rows: list[dict[str, Any]] = self._transport.execute(f"query {{ log{given} {{ {_FIELDS} }} }}")["log"]
        return rows


def _view(row: Mapping[str, Any]) -> LogView:
    info = row["info"] if isinstance(row["info"], dict) else {}
    at = parsed_time(row["timestamp"])
    if at is None:
        raise BackendUnavailable("the server holds a log line without a time")
    return LogView(
        id=str(row["id"]),
        at=at,
        stream=str(info.get("stream") or "log"),
        level=row["level"] or "INFO",
        logger=row["name"] or "",
        message=row["message"] or "",
    )

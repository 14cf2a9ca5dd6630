"""The log of one flow run at a server, read as it grows: each line once.

Lines do not always arrive in the order of their times: a line of the agent can be stored before a line that the run
printed earlier. flowherd's server numbers lines as they arrive, so lines that are there at the first look are read by
time, and later ones by number. Other servers do not number lines; there the last seconds are read again every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import integer, text_or_none
from flowherd.client.queries import select

#: Maximum number of lines in one request.
PAGE = 1000
#: Without numbers, a line is missed if it arrives more than this many seconds after a line with a later time.
OVERLAP_S = 10.0

_FIELDS = "id timestamp name level message info"
_SO_FAR_FIELDS = "id timestamp name level message stream"


@dataclass(frozen=True, kw_only=True)
class LogView:
    """One line of a run's log."""

    id: str
    at: datetime
    #: "stdout", "stderr", "log" or "flowherd"; "log" if the server does not store it.
    stream: str
    #: Name of a logging level.
    level: str
    logger: str
    message: str
    #: Text so far of an unfinished line.
    so_far: bool = False


class RunLog:
    """Reads the log of one flow run; remembers how far it has read."""

    def __init__(
        self, transport: GraphQLTransport, run_id: str, *, numbered: bool, keeps_text_so_far: bool = False
    ) -> None:
        self._transport = transport
        self._run_id = run_id
        self._numbered = numbered
        self._keeps_text_so_far = keeps_text_so_far
        #: With numbers: number of the last line at the first look. Lines after it are read by number.
        self._snapshot: int | None = None
        #: Number of the last line that was read by number; None while lines are read by time.
        self._last_number: int | None = None
        #: Latest time of a line that was read, and the ids and times of the lines near it.
        self._at: datetime | None = None
        self._near: dict[str, datetime] = {}

    def next_lines(self) -> list[LogView]:
        """Return lines that were not returned before; an empty list means that there are no more at present."""
        if self._last_number is not None:
            return self._by_number(self._last_number)
        if self._numbered and self._snapshot is None:
            self._snapshot = self._newest_number()
        lines = self._by_time()
        if not lines and self._snapshot is not None:
            self._last_number, self._near = self._snapshot, {}
            return self._by_number(self._last_number)
        return lines

    def text_so_far(self) -> list[LogView]:
        """Return what the run's streams have of unfinished lines, if the server keeps that."""
        if not self._keeps_text_so_far:
            return []
        where, order = {"flow_run_id": {"_eq": self._run_id}}, {"timestamp": Word("asc")}
        return select(self._transport, "text_so_far", _SO_FAR_FIELDS, _so_far, where=where, order_by=order)

    def _newest_number(self) -> int:
        rows = self._rows({}, {"id": Word("desc")}, 1)
        return int(rows[0].id) if rows else 0

    def _by_number(self, last: int) -> list[LogView]:
        found = self._rows({"id": {"_gt": last}}, {"id": Word("asc")}, PAGE)
        rows = [
            row for row in found if int(row.id) > last
        ]  # a server that ignores the condition must not be asked for ever
        if rows:
            self._last_number = int(rows[-1].id)
        return rows

    def _by_time(self) -> list[LogView]:
        where: dict[str, Any] = {}
        # A snapshot does not change any more, so only lines with exactly the same time can be on two pages.
        overlap = timedelta() if self._snapshot is not None else timedelta(seconds=OVERLAP_S)
        if self._snapshot is not None:
            where["id"] = {"_lte": self._snapshot}
        if self._at is not None:
            where["timestamp"] = {"_gte": (self._at - overlap).isoformat()}
        rows = self._rows(where, {"timestamp": Word("asc")}, PAGE + len(self._near))
        lines = [view for view in rows if view.id not in self._near]
        self._remember(lines, overlap)
        return lines

    def _remember(self, lines: list[LogView], overlap: timedelta) -> None:
        self._near |= {line.id: line.at for line in lines}
        self._at = max([line.at for line in lines] + ([self._at] if self._at else []), default=None)
        if self._at is not None:
            since = self._at - overlap
            self._near = {line: at for line, at in self._near.items() if at >= since}

    def _rows(self, where: Mapping[str, Any], order: Mapping[str, Any], limit: int) -> list[LogView]:
        where = {"flow_run_id": {"_eq": self._run_id}, **where}
        read = _numbered if self._numbered else _view
        return select(self._transport, "log", _FIELDS, read, where=where, order_by=order, limit=limit)


def _numbered(row: Mapping[str, Any]) -> LogView:
    integer(row["id"])
    return _view(row)


def _view(row: Mapping[str, Any]) -> LogView:
    info = row["info"] if isinstance(row["info"], dict) else {}
    at = parsed_time(row["timestamp"])
    if at is None:
        raise ValueError("a log line without a time")
    return LogView(
        id=str(row["id"]),
        at=at,
        stream=str(info.get("stream") or "log"),
        level=text_or_none(row["level"]) or "INFO",
        logger=text_or_none(row["name"]) or "",
        message=text_or_none(row["message"]) or "",
    )


def _so_far(row: Mapping[str, Any]) -> LogView:
    return replace(_view({**row, "info": {"stream": row["stream"]}}), so_far=True)

"""The log of one flow run at a server, read as it grows: each line once.

Lines do not always arrive in the order of their times: a line of the agent can be stored before a line that the run
printed earlier. flowherd's server numbers the lines of a run as they arrive, so they are read by number, which it finds
at once in a log of any length, and ordered by time here. Other servers do not number lines; there they are read by
time, and the last seconds again every time.

Of a part of the log (WantedLines) a server sends little more than that, and of its last lines only the last pages.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from flowherd.backends.graphql.literals import Word
from flowherd.backends.graphql.rows import parsed_time
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import integer, text_or_none
from flowherd.client.queries import select
from flowherd.client.wanted_lines import WantedLines

#: Maximum number of lines in one request.
PAGE = 1000
#: Without numbers, a line is missed if it arrives more than this many seconds after a line with a later time.
OVERLAP_S = 10.0
#: With numbers: how many lines are held back, so that one that arrived late can still be put in its place.
REORDERED = 10 * PAGE
#: Number of lines beyond the wanted last ones that are looked at, because one of them may have arrived late.
_MORE_LAST = 100

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
        self,
        transport: GraphQLTransport,
        run_id: str,
        *,
        numbered: bool,
        keeps_text_so_far: bool = False,
        wanted: WantedLines = WantedLines(),
    ) -> None:
        self._transport = transport
        self._run_id = run_id
        self._wanted = wanted
        self._numbered = numbered
        self._keeps_text_so_far = keeps_text_so_far
        #: With numbers: number of the last line that was read, and the lines that wait for earlier ones.
        self._last_number = 0
        self._waiting: list[tuple[datetime, int, LogView]] = []
        #: Without: latest time of a line that was read, and the ids and times of the lines near it.
        self._at: datetime | None = None
        self._near: dict[str, datetime] = {}

    def next_lines(self) -> list[LogView]:
        """Return wanted lines that were not returned before; an empty list means that there are no more at present."""
        while lines := self._next_page():
            if wanted := list(filter(self._wanted.include, lines)):
                return wanted
        return []

    def last_lines(self, count: int) -> list[LogView]:
        """Return the last wanted lines, at most `count`; `next_lines` then returns only lines that arrive later.

        Reads the log from its end. Call it before `next_lines`.
        """
        return self._last_by_number(count) if self._numbered else self._last_by_time(count)

    def is_empty(self) -> bool:
        """Return whether the server has no line of the run, wanted or not."""
        return not select(self._transport, "log", "id", _id, where={"flow_run_id": {"_eq": self._run_id}}, limit=1)

    def _next_page(self) -> list[LogView]:
        return self._next_by_number() if self._numbered else self._next_by_time()

    def text_so_far(self) -> list[LogView]:
        """Return what the run's streams have of unfinished lines, if the server keeps that."""
        if not self._keeps_text_so_far or self._wanted.journals is not None:
            return []
        where, order = {"flow_run_id": {"_eq": self._run_id}}, {"timestamp": Word("asc")}
        found = select(self._transport, "text_so_far", _SO_FAR_FIELDS, _so_far, where=where, order_by=order)
        return list(filter(self._wanted.include, found))

    def _next_by_number(self) -> list[LogView]:
        where = self._times(self._wanted.since, self._wanted.until)
        while True:
            found = self._rows({**where, "id": {"_gt": self._last_number}}, {"id": Word("asc")}, PAGE)
            # A server that ignores the condition must not be asked for ever.
            rows = [row for row in found if int(row.id) > self._last_number]
            for row in rows:
                heapq.heappush(self._waiting, (row.at, int(row.id), row))
            if rows:
                self._last_number = int(rows[-1].id)
            count = len(self._waiting) if len(rows) < PAGE else len(self._waiting) - REORDERED
            if count > 0 or not rows:
                return [heapq.heappop(self._waiting)[-1] for _ in range(count)]

    def _last_by_number(self, count: int) -> list[LogView]:
        self._last_number = last = self._newest_number()
        where, order = self._times(self._wanted.since, self._wanted.until), {"id": Word("desc")}
        found: list[LogView] = []
        size = min(count + _MORE_LAST, PAGE)
        while True:
            rows = self._rows({**where, "id": {"_lte": last}}, order, size)
            found += filter(self._wanted.include, rows)
            if len(rows) < size or len(found) >= count + _MORE_LAST or int(rows[-1].id) > last:
                break
            size, last = PAGE, int(rows[-1].id) - 1
        found.sort(key=lambda line: (line.at, int(line.id)))
        return found[max(0, len(found) - count) :]

    def _newest_number(self) -> int:
        where, order = {"flow_run_id": {"_eq": self._run_id}}, {"id": Word("desc")}
        found = select(self._transport, "log", "id", _number, where=where, order_by=order, limit=1)
        return found[0] if found else 0

    def _next_by_time(self) -> list[LogView]:
        overlap = timedelta(seconds=OVERLAP_S)
        where = self._times(self._wanted.since if self._at is None else self._at - overlap, self._wanted.until)
        rows = self._rows(where, {"timestamp": Word("asc")}, PAGE + len(self._near))
        lines = [view for view in rows if view.id not in self._near]
        self._near |= {line.id: line.at for line in lines}
        self._at = max([line.at for line in lines] + ([self._at] if self._at else []), default=None)
        if self._at is not None:
            since = self._at - overlap
            self._near = {line: at for line, at in self._near.items() if at >= since}
        return lines

    def _last_by_time(self, count: int) -> list[LogView]:
        found: list[LogView] = []
        for page in self._pages_from_the_end(max(count, _MORE_LAST)):
            self._at = self._at or page[0].at
            since = self._at - timedelta(seconds=OVERLAP_S)
            # The lines of the last seconds must be known to be recognised.
            self._near |= {line.id: line.at for line in page if line.at >= since}
            found += filter(self._wanted.include, page)
            if len(found) >= count and page[-1].at < since:
                break
        return found[:count][::-1]

    def _pages_from_the_end(self, first_size: int) -> Iterator[list[LogView]]:
        """Yield pages of lines, the last line first."""
        size, near, before = min(first_size, PAGE), dict[str, datetime](), self._wanted.until
        while True:
            rows = self._rows(self._times(self._wanted.since, before), {"timestamp": Word("desc")}, size + len(near))
            page = [row for row in rows if row.id not in near]
            if not page:
                return
            yield page
            # Only lines with exactly the same time as the last one can be on the next page too.
            size, before = PAGE, page[-1].at
            near = {row.id: row.at for row in rows if row.at == before}

    @staticmethod
    def _times(since: datetime | None, until: datetime | None) -> dict[str, Any]:
        given = {"_gte": since and since.isoformat(), "_lte": until and until.isoformat()}
        times = {name: time for name, time in given.items() if time is not None}
        return {"timestamp": times} if times else {}

    def _rows(self, where: Mapping[str, Any], order: Mapping[str, Any], limit: int) -> list[LogView]:
        where = {"flow_run_id": {"_eq": self._run_id}, **self._wanted.conditions(), **where}
        read = _numbered if self._numbered else _view
        return select(self._transport, "log", _FIELDS, read, where=where, order_by=order, limit=limit)


def _id(row: Mapping[str, Any]) -> str:
    return str(row["id"])


def _number(row: Mapping[str, Any]) -> int:
    return integer(row["id"])


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

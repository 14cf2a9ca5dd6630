"""Which lines of a run's log a page shows: the first and the last, those around a link, those of a level or a stream.

A line is found by its number (log_line.number), so a log of any length costs what is shown of it. A search, and a
choice by level or stream, reads the rows of the run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from flowherd.web.log_rows import LogRow, search_pattern
from flowherd.web.terminal_text import plain_text
from flowherd_runner.contract.journal import STREAM_LOG, STREAM_NAMES
from flowherd_server.store.log_codes import LEVEL_COUNTERS, LEVEL_NAMES, LEVELS, NO_STREAM, STREAMS
from flowherd_server.store.microseconds import to_datetime
from flowherd_server.store.plain import plain

#: Number of lines that are shown of the begin and of the end of a log, and before and after a line that is linked.
FIRST, LAST, AROUND = 200, 1000, 100
#: Number of lines of which a page shows all on request.
MOST_IN_PAGE = 5000
#: Characters that are shown of a line.
_LINE_CHARS = 2000
#: A search, and a choice by level or stream, looks at this many lines, the latest.
_LOOKED_THROUGH = 1_000_000
#: Number of lines found by a search that are counted.
_MOST_FOUND = 100_000
#: Characters of a piece of the whole log, or little more.
_PIECE_CHARS = 128 * 1024
#: {level in the address: lowest level of the lines that are shown}.
LEVELS_SHOWN = {"all": 0, "info": LEVELS["INFO"], "warning": LEVELS["WARNING"], "error": LEVELS["ERROR"]}
#: Streams that can be chosen; "log" are records of logging.
STREAMS_SHOWN = tuple(STREAMS)

_COLUMNS = "number, timestamp, level, level_name, stream, name"
_TEXT = f"substr(message, 1, {_LINE_CHARS}), max(0, length(message) - {_LINE_CHARS})"
_BETWEEN = f"SELECT {_COLUMNS}, {_TEXT} FROM log_line WHERE run = ? AND id BETWEEN ? AND ? ORDER BY id"
_WHOLE = f"SELECT {_COLUMNS}, message, 0 FROM log_line WHERE run = ? AND id > ? ORDER BY id"
_SO_FAR = "SELECT timestamp, level, stream, message FROM text_so_far WHERE flow_run_id = ? ORDER BY timestamp"
_CHOSEN = "FROM log_line NOT INDEXED WHERE run = ? AND number > ?"


@dataclass(frozen=True, kw_only=True)
class LogRequest:
    """What a person wants to see of a log, as the page's address says it."""

    #: One of LEVELS_SHOWN.
    level: str = "all"
    #: One of STREAMS_SHOWN, or empty for all.
    stream: str = ""
    search: str = ""
    #: Number of the line that the search or the link leads to; 0 for none.
    line: int = 0
    #: Number of lines that are shown of the begin.
    first: int = FIRST

    @property
    def is_chosen(self) -> bool:
        """Whether only lines of a level or stream are shown."""
        return self.level != "all" or bool(self.stream)

    def address(self, **changes: Any) -> dict[str, Any]:
        """Return the parameters of the address of this request with `changes`, without those that change nothing."""
        values = {"level": self.level, "stream": self.stream, "search": self.search, "line": self.line, **changes}
        usual = {"level": "all", "stream": "", "search": "", "line": 0, "first": FIRST}
        return {name: value for name, value in values.items() if value != usual[name]}


def read_log_request(query: Mapping[str, str]) -> LogRequest:
    """Read the parameters of the page's address; what is none of the choices counts as not given."""
    level, stream = query.get("level", "all"), query.get("stream", "")
    return LogRequest(
        level=level if level in LEVELS_SHOWN else "all",
        stream=stream if stream in STREAMS_SHOWN else "",
        search=query.get("search", "")[:200],
        line=_number(query.get("line", "")),
        first=min(max(FIRST, _number(query.get("first", ""))), MOST_IN_PAGE),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 11 else 0


@dataclass(frozen=True)
class LogPart:
    """Lines that follow each other, and how many are not shown before them."""

    hidden: int
    rows: Sequence[LogRow]


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search has found."""

    count: int
    #: Whether there are more than were counted, or earlier lines that were not looked at.
    is_cut: bool
    #: Place among the found ones, from 1, and number of the line that the search stands at; 0 for nothing.
    place: int = 0
    line: int = 0
    previous: int = 0
    next: int = 0


@dataclass(frozen=True, kw_only=True)
class LogView:
    """What a page shows of a log."""

    request: LogRequest
    #: Number of lines of the whole log, and of each name in LEVELS_SHOWN, of that level alone.
    lines: int
    counts: Mapping[str, int]
    parts: Sequence[LogPart] = ()
    found: Found | None = None
    #: Text of unfinished lines.
    so_far: Sequence[LogRow] = field(default=())

    @property
    def last(self) -> int:
        """The greatest number of a line of the log that is shown."""
        return max((row.number for part in self.parts[-1:] for row in part.rows), default=0)


def view_log(connection: Connection, run: Mapping[str, Any], request: LogRequest, *, with_rows: bool = True) -> LogView:
    """Return what to show of the log of a run; `run` has the columns `id`, `seq` and the counters.

    Without rows only what changes while somebody looks: the counts, and the text of unfinished lines.
    """
    lines = run["log_lines"]
    so_far = [_so_far(row) for row in plain(connection).execute(_SO_FAR, (run["id"],))]
    if not with_rows:
        return LogView(request=request, lines=lines, counts=_counts(run), so_far=so_far)
    found = _search(connection, run["seq"], lines, request) if request.search else None
    line = found.line if found else min(request.line, lines)
    parts = _chosen(connection, run["seq"], lines, request) if request.is_chosen else None
    return LogView(
        request=request,
        lines=lines,
        counts=_counts(run),
        parts=_parts(connection, run["seq"], _windows(lines, request.first, line)) if parts is None else parts,
        found=found,
        so_far=so_far,
    )


def _counts(run: Mapping[str, Any]) -> dict[str, int]:
    counts = dict.fromkeys(LEVELS_SHOWN, 0)
    for column, lowest in LEVEL_COUNTERS.items():
        name = next(name for name in reversed(LEVELS_SHOWN) if lowest >= LEVELS_SHOWN[name])
        counts[name] += run[column]
    return {**counts, "all": run["log_lines"]}


def _windows(lines: int, first: int, line: int) -> list[tuple[int, int]]:
    """Return the first and last numbers of the lines to show, in order; windows that touch are one."""
    wanted = [(1, first), (lines - LAST + 1, lines), *([(line - AROUND, line + AROUND)] if line else [])]
    found = list[tuple[int, int]]()
    for begin, end in sorted((max(1, begin), min(lines, end)) for begin, end in wanted):
        if end < begin:
            continue
        if found and begin <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((begin, end))
    return found


def _parts(connection: Connection, run: int, windows: Sequence[tuple[int, int]]) -> list[LogPart]:
    parts, before = [], 0
    for begin, end in windows:
        rows = plain(connection).execute(_BETWEEN, (run, run << 32 | begin, run << 32 | end))
        # What is written at nearly the same time by agent and run may arrive in another order.
        shown = sorted(map(_log_row, rows), key=lambda row: row.at)
        parts.append(LogPart(begin - before - 1, shown))
        before = end
    return parts


def lines_after(connection: Connection, run: Mapping[str, Any], number: int) -> list[LogRow]:
    """Return the lines of a run after the line with this number, at most as many as a page first shows of its end."""
    sqlite, after = plain(connection), run["seq"] << 32 | number
    text = f"SELECT {_COLUMNS}, {_TEXT} FROM log_line WHERE run = ? AND id > ? ORDER BY id DESC LIMIT {LAST}"
    return [_log_row(row) for row in sqlite.execute(text, (run["seq"], after)).fetchall()][::-1]


def _conditions(request: LogRequest) -> tuple[str, list[Any]]:
    text, values = "", list[Any]()
    if request.level != "all":
        text += " AND level >= ?"
        values.append(LEVELS_SHOWN[request.level])
    if request.stream:
        # Records of programs that have no journal are records of logging, too.
        streams = [STREAMS[request.stream], *([NO_STREAM] if STREAMS[request.stream] == STREAM_LOG else [])]
        text += f" AND stream IN ({', '.join('?' * len(streams))})"
        values += streams
    return text, values


def _chosen(connection: Connection, run: int, lines: int, request: LogRequest) -> list[LogPart]:
    condition, values = _conditions(request)
    where, of_run = f"{_CHOSEN}{condition}", (run, max(0, lines - _LOOKED_THROUGH), *values)
    count = plain(connection).execute(f"SELECT count(*) {where}", of_run).fetchone()[0]
    select = f"SELECT {_COLUMNS}, {_TEXT} {where} ORDER BY number DESC LIMIT {LAST}"
    rows = [_log_row(row) for row in plain(connection).execute(select, of_run).fetchall()][::-1]
    return [LogPart(count - len(rows), rows)] if rows else []


def _search(connection: Connection, run: int, lines: int, request: LogRequest) -> Found:
    """Look for lines with a text. It may have colours in it, so such lines are compared as they are shown."""
    pattern = search_pattern(request.search)
    assert pattern is not None
    condition, values = _conditions(request)
    like = f"%{request.search.translate({ord(c): chr(92) + c for c in '%_' + chr(92)})}%"
    text = (
        f"SELECT number, CASE WHEN instr(message, char(27)) OR instr(message, char(13)) THEN message END {_CHOSEN}"
        f"{condition} AND (message LIKE ? ESCAPE '\\' OR instr(message, char(27))) ORDER BY number"
    )
    start = max(0, lines - _LOOKED_THROUGH)
    rows = plain(connection).execute(text, (run, start, *values, like))
    numbers = [number for number, message in rows if message is None or pattern.search(plain_text(message))]
    is_cut = start > 0 or len(numbers) > _MOST_FOUND
    if not numbers:
        return Found(count=0, is_cut=is_cut)
    place = next((n for n, number in enumerate(numbers) if number >= request.line), 0) if request.line else -1
    place %= len(numbers)
    return Found(
        count=len(numbers),
        is_cut=is_cut,
        place=place + 1,
        line=numbers[place],
        previous=numbers[place - 1],
        next=numbers[(place + 1) % len(numbers)],
    )


def _log_row(values: Sequence[Any]) -> LogRow:
    number, at, level, level_name, stream, name, message, cut = values
    if stream in STREAM_NAMES and stream != STREAM_LOG:
        return LogRow(number, to_datetime(at), STREAM_NAMES[stream], level, message, cut)
    source = level_name or LEVEL_NAMES.get(level, f"Level {level}")
    return LogRow(number, to_datetime(at), source, level, f"{name}: {message}" if name else message, cut)


def _so_far(values: Sequence[Any]) -> LogRow:
    at, level, stream, message = values
    return LogRow(0, to_datetime(at), stream, LEVELS.get(level, 0), message)


def plain_lines(connection: Connection, run: int, after: int) -> tuple[str, int]:
    """Return the text of some lines after the one with number `after`, and the number of the last; 0 at the end."""
    parts, size, last = list[str](), 0, 0
    for values in plain(connection).execute(_WHOLE, (run, run << 32 | after)):
        row = _log_row(values)
        parts.append(_plain(row))
        size, last = size + len(parts[-1]), row.number
        if size > _PIECE_CHARS:
            break
    return "".join(parts), last


def _plain(row: LogRow) -> str:
    at = row.at.astimezone()
    label = f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}  {row.source:<8}  "
    text = plain_text(row.message)
    if "\n" in text:
        text = text.replace("\n", "\n" + " " * len(label))
    return f"{label}{text}\n"

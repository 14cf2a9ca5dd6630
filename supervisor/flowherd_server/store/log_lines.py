"""Stores log lines, each once, and counts them. Every line of every log goes through `store_lines`.

A line's key is (run, attempt, offset). A line of a journal has the byte offset of its record, and its attempt is the
number of the journal among those of the run, from 1. So a line that is sent again has the same key. Lines that are not
from a journal are in the same table:

    line_id            attempt                    offset
    "TOKEN:OFFSET"     number of TOKEN            OFFSET
    "TOKEN:TEXT"       number of TOKEN            negative, a hash of TEXT, which is stored as `mark`
    "OFFSET", "TEXT"   number of the empty token  as above
    none               0                          the line's number in the run

A line's `number` is its place in the order of arrival within the run, from 1.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection

from flowherd_server.store.log_codes import NO_STREAM, counter_of, level_code, stream_code
from flowherd_server.store.plain import plain
from flowherd_server.store.row_lookup import numbers_of
from flowherd_server.store.tables import FLOW_RUN, LOG_ATTEMPT, LOG_LINE, TASK_RUN

#: Attempt of lines without an id.
NO_ATTEMPT = 0
#: Number of journals of one run after which further ones have no number of their own: only a program that makes up a
#: new token for each line has as many.
_MOST_ATTEMPTS = 1000
_LARGEST_OFFSET = (1 << 63) - 1
#: Columns that every line has, and those that most lines do not have.
_COMMON = "run", "attempt", "offset", "number", "timestamp", "level", "stream", "name", "message"
_RARE = "task_run", "info", "level_name", "mark"
#: Place of the level in a row.
_LEVEL_PLACE = _COMMON.index("level")
#: Rows of one statement: it costs half of what as many statements cost. SQLite before 3.32 takes at most 999 values.
_AT_ONCE = 100

_OFFSETS = f"SELECT max(offset) FROM {LOG_LINE.name} WHERE run = ? AND attempt = ?"
_KNOWN_OFFSETS = (
    f"SELECT offset FROM {LOG_LINE.name} WHERE run = ? AND attempt = ? AND offset IN (SELECT value FROM json_each(?))"
)
_OFFSETS_BETWEEN = f"SELECT offset FROM {LOG_LINE.name} WHERE run = ? AND attempt = ? AND offset >= ? AND offset < ?"
_LAST_ID = f"SELECT max(id) FROM {LOG_LINE.name} WHERE run = ?"


class NewLine(NamedTuple):
    """One line to store."""

    flow_run_id: str
    task_run_id: str | None
    #: Microseconds since the epoch; None for the present.
    timestamp: int | None
    name: str | None
    #: Name of the level.
    level: str
    message: str
    #: A JSON object as text, and its stream.
    info: str | None = None
    stream: str | None = None
    line_id: str | None = None


def _insertion(columns: Sequence[str], rows: int = 1) -> str:
    row = f"({', '.join('?' for _ in columns)})"
    return f"INSERT INTO {LOG_LINE.name} ({', '.join(columns)}) VALUES {', '.join([row] * rows)}"


_INSERT = _insertion(_COMMON)
_INSERT_MANY = _insertion(_COMMON, _AT_ONCE)
_INSERT_WHOLE = _insertion((*_COMMON, *_RARE))


class NewRows:
    """Rows of new lines of one run, which are inserted together."""

    def __init__(self) -> None:
        #: Values of the common columns, one line after the other, of lines that have no others.
        self.common: list[Any] = []
        #: Values of all columns.
        self.whole: list[tuple[Any, ...]] = []

    def add(self, common: tuple[Any, ...], rare: tuple[Any, ...]) -> None:
        """Add a row by its common and its rare columns."""
        if rare == (None, None, None, None):
            self.common += common
        else:
            self.whole.append((*common, *rare))

    def insert(self, connection: Connection, run: int) -> None:
        """Insert the rows, and count them in their run."""
        if not (self.common or self.whole):
            return
        sqlite, values, width = plain(connection), self.common, len(_COMMON)
        step = width * _AT_ONCE
        many = len(values) - len(values) % step
        # Even of no rows, a statement costs something, and most requests have few lines.
        if many:
            sqlite.executemany(_INSERT_MANY, (values[at : at + step] for at in range(0, many, step)))
        if many < len(values):
            sqlite.executemany(_INSERT, (values[at : at + width] for at in range(many, len(values), width)))
        if self.whole:
            sqlite.executemany(_INSERT_WHOLE, self.whole)
        levels = Counter(values[_LEVEL_PLACE::width])
        levels.update(row[_LEVEL_PLACE] for row in self.whole)
        _count(connection, run, levels)


class _Place(NamedTuple):
    """Where a line belongs in its run."""

    attempt: int
    #: None for a line without an id, whose offset is its number.
    offset: int | None
    mark: str | None


def store_lines(connection: Connection, lines: Sequence[NewLine], now: int) -> None:
    """Store those lines that are not stored yet, in this order. `now` is the present, microseconds since the epoch.

    Raises Refused if a run or task run does not exist.
    """
    runs = numbers_of(connection, FLOW_RUN, {line.flow_run_id for line in lines})
    tasks = numbers_of(connection, TASK_RUN, {line.task_run_id for line in lines if line.task_run_id is not None})
    by_run: dict[int, list[NewLine]] = {}
    for line in lines:
        by_run.setdefault(runs[line.flow_run_id], []).append(line)
    for run, its_lines in by_run.items():
        _store(connection, run, its_lines, tasks, now)


def _store(connection: Connection, run: int, lines: Sequence[NewLine], tasks: dict[str, int], now: int) -> None:
    attempts = Attempts(connection, run)
    places = [attempts.place(line.line_id) for line in lines]
    known = _known(connection, run, places)
    number = last_number(connection, run)
    rows = NewRows()
    for line, place in zip(lines, places, strict=True):
        if place.offset is not None:
            if (place.attempt, place.offset) in known:
                continue
            known.add((place.attempt, place.offset))
        number += 1
        level, level_name = level_code(line.level)
        task_run = None if line.task_run_id is None else tasks[line.task_run_id]
        at = now if line.timestamp is None else line.timestamp
        stream, name, message, info = stored_text(line)
        key = run, place.attempt, number if place.offset is None else place.offset
        rows.add((*key, number, at, level, stream, name, message), (task_run, info, level_name, place.mark))
    rows.insert(connection, run)


def last_number(connection: Connection, run: int) -> int:
    """Return the number of the run's latest line; 0 if it has none."""
    return (plain(connection).execute(_LAST_ID, (run,)).fetchone()[0] or 0) & 0xFFFFFFFF


def offsets_between(connection: Connection, run: int, attempt: int, start: int, end: int) -> set[int]:
    """Return the offsets from `start` to before `end` at which a line of this journal is stored."""
    return {row[0] for row in plain(connection).execute(_OFFSETS_BETWEEN, (run, attempt, start, end))}


def stored_text(line: NewLine) -> tuple[int, str | None, str, str | None]:
    """Return stream, name, message and info as they are stored.

    A name that is that of the stream is stored as the empty text, and an info that only has the stream is not stored.
    """
    stream = stream_code(line.stream)
    name = line.name or None
    if stream != NO_STREAM and name == line.stream:
        name = ""
    info = None if stream != NO_STREAM and line.info == only_stream(line.stream) else line.info
    return stream, name, line.message, info


def only_stream(stream: str | None) -> str:
    """Return the info of a line of which nothing but the stream is known."""
    return f'{{"stream":"{stream}"}}'


class Attempts:
    """The numbers of the journals of one run."""

    def __init__(self, connection: Connection, run: int) -> None:
        self._connection = connection
        self._run = run
        self._numbers: dict[str, int] | None = None

    def place(self, line_id: str | None) -> _Place:
        """Return where the line with this id belongs."""
        if line_id is None:
            return _Place(NO_ATTEMPT, None, None)
        token, colon, text = line_id.rpartition(":")
        number = self.number(token) if colon and token else None
        if number is None:
            number, text = self.number(""), line_id
            assert number is not None
        offset = _offset(text)
        if offset is not None:
            return _Place(number, offset, None)
        return _Place(number, _hash(text), text)

    def number(self, token: str) -> int | None:
        """Return the number of a journal; None if there are too many of them."""
        if self._numbers is None:
            query = f"SELECT name, attempt FROM {LOG_ATTEMPT.name} WHERE run = ?"
            self._numbers = dict(plain(self._connection).execute(query, (self._run,)))
        number = self._numbers.get(token)
        if number is None and (len(self._numbers) < _MOST_ATTEMPTS or not token):
            number = self._numbers[token] = len(self._numbers) + 1
            insert = f"INSERT INTO {LOG_ATTEMPT.name} (run, attempt, name) VALUES (?, ?, ?)"
            plain(self._connection).execute(insert, (self._run, number, token))
        return number


def _offset(text: str) -> int | None:
    """Return the offset that is written so; None if it is some other text."""
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        return None
    offset = int(text)
    return offset if str(offset) == text and offset <= _LARGEST_OFFSET else None


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return -1 - (int.from_bytes(digest, "big") >> 1)


def _known(connection: Connection, run: int, places: Iterable[_Place]) -> set[tuple[int, int]]:
    """Return those of the places at which a line is stored."""
    offsets: dict[int, set[int]] = {}
    for place in places:
        if place.offset is not None:
            offsets.setdefault(place.attempt, set()).add(place.offset)
    known: set[tuple[int, int]] = set()
    for attempt, wanted in offsets.items():
        last = plain(connection).execute(_OFFSETS, (run, attempt)).fetchone()[0]
        # New lines of a journal are beyond all others, so usually there is nothing to look up.
        earlier = [] if last is None else sorted(offset for offset in wanted if offset <= last)
        if earlier:
            found = plain(connection).execute(_KNOWN_OFFSETS, (run, attempt, json.dumps(earlier)))
            known.update((attempt, row[0]) for row in found)
    return known


def _count(connection: Connection, run: int, levels: Counter[int]) -> None:
    counts = Counter[str]()
    for level, lines in levels.items():
        counts[counter_of(level)] += lines
    changes = {"log_lines": counts.total(), **counts}
    text = ", ".join(f"{column} = {column} + ?" for column in changes)
    plain(connection).execute(f"UPDATE {FLOW_RUN.name} SET {text} WHERE seq = ?", (*changes.values(), run))

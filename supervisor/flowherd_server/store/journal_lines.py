"""Stores the lines of journals from the journals' own bytes, in one loop: the rows that `store_lines` would make.

A piece of a journal is whole records, from one offset to another. What is in it is stored once, by the offsets, so a
piece that comes again changes nothing; pieces of one journal may come in any order, but lines are numbered as they
come.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection

from flowherd.journal_content import record_content
from flowherd_runner.contract import journal
from flowherd_server.errors import Refused
from flowherd_server.store.log_codes import LEVELS
from flowherd_server.store.log_lines import Attempts, NewLine, NewRows, last_number, offsets_between, stored_text
from flowherd_server.store.row_lookup import numbers_of
from flowherd_server.store.tables import TASK_RUN

_UNKNOWN_STREAM = "log"
#: The standard level at or below each, which is the one that agents send over GraphQL.
_STANDARD = [max((number for number in LEVELS.values() if 0 < number <= level), default=10) for level in range(256)]


def standard_level(stream: int, level: int) -> int:
    """Return the level of the line of a record with this level; 0 if the record has none."""
    return _STANDARD[level or LEVELS["ERROR" if stream == journal.STREAM_STDERR else "INFO"]]


#: {stream of the output itself: {level of a record: level of its line}}.
_OUTPUT_LEVEL = {
    stream: [standard_level(stream, level) for level in range(256)]
    for stream in (journal.STREAM_STDOUT, journal.STREAM_STDERR)
}


class Piece(NamedTuple):
    """A part of the journal of one attempt of a run."""

    flow_run_id: str
    #: Token of the attempt; empty for the journals of agents that have none.
    attempt: str
    #: Where the part begins in the journal, bytes. At the begin of a record, if the journal is not damaged there.
    offset: int
    data: bytes
    #: Whether a record begins here for certain, so that what is no record is damage, and is skipped.
    is_certain: bool = True


@dataclass
class Found:
    """What a piece says beside its lines."""

    #: Where the whole records end in the journal.
    end: int
    #: Unfinished lines, by stream: the record of the latest text.
    so_far: dict[int, journal.Record] = field(default_factory=dict)
    #: Latest time of a finished line by stream, microseconds since the epoch.
    finished: dict[int, int] = field(default_factory=dict)
    #: Number of lines that were not stored before.
    lines: int = 0


def store_piece(connection: Connection, run: int, piece: Piece) -> Found:
    """Store the lines of a piece of a journal of the run with this number.

    Raises Refused if one of its task runs does not exist, if no record begins where the piece does although that is not
    certain, or if the run has more journals than are told apart.
    """
    attempt = Attempts(connection, run).number(piece.attempt)
    if attempt is None:
        raise Refused("the run has too many journals")
    end = piece.offset + len(piece.data)
    known = offsets_between(connection, run, attempt, piece.offset, end)
    before = last_number(connection, run)
    reader = _Reader(connection, (run, attempt), known, before)
    found = reader.read(piece)
    reader.rows.insert(connection, run)
    found.lines = reader.number - before
    return found


class _Reader:
    """Makes the rows of one piece of the journal `key`, without the `known` offsets; numbers follow on `number`."""

    def __init__(self, connection: Connection, key: tuple[int, int], known: Container[int], number: int) -> None:
        self._connection = connection
        self._key = key
        self._known = known
        self.number = number
        self._tasks: dict[str, int] = {}
        self.rows = NewRows()

    def read(self, piece: Piece) -> Found:
        """Read all whole records. Raises Refused."""
        data, base = piece.data, piece.offset
        found = Found(base)
        position = 0
        while True:
            position = self._read_whole(data, base, position, found)
            if not position and data and not piece.is_certain:
                raise Refused(f"no record of the journal begins at {base}")
            # What follows has not come whole, or is damaged.
            record = next(journal.unpack_all(data[position:], base + position), None)
            if record is None:
                break
            position = record.offset - base
        found.so_far = {
            stream: text
            for stream, text in found.so_far.items()
            if text.time_ns // 1000 > found.finished.get(stream, 0)
        }
        return found

    def _read_whole(self, data: bytes, base: int, position: int, found: Found) -> int:
        """Read records until one that is not whole. Returns where that is."""
        (run, attempt), known, number, values = self._key, self._known, self.number, self.rows.common
        unpack, crc32, header, size = journal.HEADER.unpack_from, zlib.crc32, journal.HEADER_BYTES, len(data)
        finished = found.finished
        while position + header <= size:
            magic, stream, level, time_ns, length, crc = unpack(data, position)
            begin = position + header
            end = begin + length
            payload = data[begin:end]
            if end > size or crc32(payload, crc32(data[position : begin - 4])) != crc:
                break
            offset = base + position
            if magic == journal.LINE_MAGIC:
                time_us = time_ns // 1000
                finished[stream] = time_us
                if offset in known:
                    pass
                elif stream in _OUTPUT_LEVEL:
                    number += 1
                    text = payload.decode("utf-8", "backslashreplace")
                    if "\0" in text:
                        text = text.replace("\0", "\\x00")
                    level = _OUTPUT_LEVEL[stream][level]
                    values += (run, attempt, offset, number, time_us, level, stream, "", text)
                else:
                    number += 1
                    self._add((run, attempt, offset, number, time_us, standard_level(stream, level)), stream, payload)
            elif magic == journal.SO_FAR_MAGIC:
                (record,) = journal.unpack_all(data[position:end], offset)
                found.so_far[record.stream] = record
            else:
                break
            position = end
        found.end = max(found.end, base + position)
        self.number = number
        return position

    def _add(self, begin: tuple[int, ...], stream: int, payload: bytes) -> None:
        """Add the row of a record that is not output; `begin` has its columns up to the level."""
        content = record_content(stream, payload)
        name = journal.STREAM_NAMES.get(stream, _UNKNOWN_STREAM)
        info = json.dumps({**(content.info or {}), "stream": name}, separators=(",", ":"))
        task_run = None if content.task_run_id is None else self._task(content.task_run_id)
        line = NewLine("", None, None, _encodable(content.logger), "", _encodable(content.message), info, name)
        stored_stream, logger, message, info_text = stored_text(line)
        self.rows.add((*begin, stored_stream, logger, message), (task_run, info_text, None, None))

    def _task(self, task_run_id: str) -> int:
        if task_run_id not in self._tasks:
            self._tasks |= numbers_of(self._connection, TASK_RUN, {task_run_id})
        return self._tasks[task_run_id]


def _encodable(text: str) -> str:
    """Return the text without halves of surrogate pairs, which JSON allows but a database cannot store."""
    return text if text.isascii() else text.encode(errors="replace").decode()

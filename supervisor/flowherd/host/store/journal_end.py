"""The last line of a run's journal: the agent ends the journal with the run's end and its cause.

Only the holder of the run's lock may write here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from flowherd_runner.contract import files, journal

#: Logger of the agent's notices in a journal; the runner's notices name none.
_AGENT_LOGGER = "flowherd"
#: Number of streams that can have text so far: stdout and stderr.
_MAX_STREAMS = 2
#: Size of two of the longest records, bytes, so that a complete one is found before a torn one.
_LAST_RECORD_BYTES = 2 * (journal.MAX_LINE_BYTES + journal.HEADER_BYTES)


def append_notice(path: Path, message: str, level: int) -> None:
    """End the journal with a line from the agent, unless an earlier agent has done so already.

    Text so far that the runner could not finish, because it was killed, becomes a line before that.

    The earlier line then stays and is the only one: a crash right after this must not double it, and the texts may
    differ, because the earlier agent had watched the run. Raises OSError when the disk does not take it.
    """
    payload = json.dumps({"logger": _AGENT_LOGGER, "message": message}).encode()
    records = _last_records(path)
    last = records[-1] if records else None
    if _is_from_agent(last):
        return
    _drop_torn_record(path, last)
    time_ns = max(time.time_ns(), last.time_ns + 1000 if last else 0)
    ended = b"".join(_lines_of_text_so_far(records, time_ns))
    record = ended + journal.pack_record(journal.STREAM_NOTICE, level, time_ns + 1000 * _MAX_STREAMS, payload)
    fd = files.open_regular(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(fd, record)
    finally:
        os.close(fd)


def ends_with_notice(path: Path) -> bool:
    """Return whether an agent has concluded how the run ended and written that at the end of the journal."""
    records = _last_records(path)
    return bool(records) and _is_from_agent(records[-1])


def last_time_ns(path: Path) -> int:
    """Return the time of the last record of the journal (wall clock, nanoseconds); 0 if there is none."""
    try:
        records = _last_records(path)
    except OSError:
        return 0
    return records[-1].time_ns if records else 0


def journal_bytes(path: Path) -> int:
    """Return the size of the journal now; 0 if there is none."""
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _is_from_agent(record: journal.Record | None) -> bool:
    if record is None or record.stream != journal.STREAM_NOTICE:
        return False
    try:
        content = json.loads(record.payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("logger") == _AGENT_LOGGER


def _lines_of_text_so_far(records: list[journal.Record], time_ns: int) -> Iterator[bytes]:
    """Yield a record of a line for each stream whose last record is text so far."""
    latest = {record.stream: record for record in records}
    unfinished = [record for record in latest.values() if record.so_far]
    for number, record in enumerate(sorted(unfinished, key=lambda record: record.time_ns)[:_MAX_STREAMS]):
        yield journal.pack_record(record.stream, record.level, time_ns + 1000 * number, record.payload)


def _last_records(path: Path) -> list[journal.Record]:
    """Return the records at the end of the journal, text so far included; none if there is no journal."""
    try:
        with os.fdopen(files.open_regular(str(path), os.O_RDONLY), "rb") as file:
            start = file.seek(max(0, journal_bytes(path) - _LAST_RECORD_BYTES))
            return list(journal.unpack_all(file.read(2 * _LAST_RECORD_BYTES), start))
    except FileNotFoundError:
        return []


def _drop_torn_record(path: Path, last: journal.Record | None) -> None:
    """Cut off what a killed writer left of its last record: a reader would wait for the rest, and read no further."""
    size = journal_bytes(path)
    if last is not None and last.end < size:
        _truncate(path, last.end)
    elif last is None and 0 < size < _LAST_RECORD_BYTES:
        _truncate(path, 0)


def _truncate(path: Path, size_bytes: int) -> None:
    with os.fdopen(files.open_regular(str(path), os.O_RDWR), "r+b") as file:
        file.truncate(size_bytes)

"""The record format of a run's output: turns values into bytes and back, without file or clock."""

import struct
import zlib
from typing import Iterator, NamedTuple, Optional

# Caps.

#: A longer line is journaled up to this length; a notice says how much was left out.
MAX_LINE_BYTES = 128 * 1024
#: Size at which a run's journal ends; later output is counted, not kept, and a notice says how much.
MAX_JOURNAL_BYTES = 1024 * 1024 * 1024

STREAM_STDOUT = 1  # payload: one line as the process wrote it, without the newline
STREAM_STDERR = 2  # the same
# payload: JSON {"logger": str, "message": str, "task_run_id"?: str, "flow_run_id"?: str} of one logging record; the
# last when the record belongs to a subflow, which is a flow run other than the journal's
STREAM_LOG = 3
STREAM_NOTICE = 4  # payload: JSON {"message": str}, a message of flowherd about this run

STREAM_NAMES = {
    STREAM_STDOUT: "stdout",
    STREAM_STDERR: "stderr",
    STREAM_LOG: "log",
    STREAM_NOTICE: "flowherd",
}

# magic, stream, level, time in ns since the epoch, payload length, CRC-32 of the header before it and the payload
_HEAD = struct.Struct("<2sBBQI")
_CRC = struct.Struct("<I")
_MAGIC = b"\xf1\x0e"
HEADER_BYTES = _HEAD.size + _CRC.size


class Record(NamedTuple):
    """One journal record, and where it is in the file."""

    #: Byte offset of the record's header; together with the run's id it identifies the line for ever.
    offset: int
    #: Byte offset of the first byte after the record.
    end: int
    stream: int
    #: A logging level, 0 to 255.
    level: int
    #: Wall clock time, nanoseconds; strictly increasing within one journal.
    time_ns: int
    payload: bytes


def pack_record(stream: int, level: int, time_ns: int, payload: bytes) -> bytes:
    """Return one journal record as bytes; `level` is clamped to 0..255."""
    head = _HEAD.pack(_MAGIC, stream, max(0, min(255, level)), time_ns, len(payload))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def unpack_records(data: bytes, base: int = 0) -> Iterator[Record]:
    """Yield the whole records in `data`, which begins at journal offset `base`.

    Stops before a record that is incomplete or does not match its checksum: at the end of the file that is a write
    under way, or one that a crash has cut off. Bytes that are no record, with a whole record somewhere after them, are
    skipped, so damage in the middle of a journal costs only the records that it hit.
    """
    position = 0
    while position < len(data):
        record = _record_at(data, position, base)
        if record is None:
            if _is_cut(data, position):
                return
            found = _next_record(data, position + 1, base)
            if found is None:
                return
            record = found
        yield record
        position = record.end - base


def _is_cut(data: bytes, position: int) -> bool:
    """Whether a record begins here that ends after the data: what looks like a record in its payload is text."""
    if len(data) - position < _HEAD.size:
        return True
    magic, _, _, _, length = _HEAD.unpack_from(data, position)
    return bool(magic == _MAGIC and length <= MAX_LINE_BYTES * 2 and position + HEADER_BYTES + length > len(data))


def _record_at(data: bytes, position: int, base: int) -> Optional[Record]:
    body = position + HEADER_BYTES
    if len(data) < body:
        return None
    magic, stream, level, time_ns, length = _HEAD.unpack_from(data, position)
    end = body + length
    if magic != _MAGIC or length > MAX_LINE_BYTES * 2 or len(data) < end:
        return None
    (crc,) = _CRC.unpack_from(data, body - _CRC.size)
    payload = bytes(data[body:end])
    if zlib.crc32(payload, zlib.crc32(data[position : position + _HEAD.size])) != crc:
        return None
    return Record(base + position, base + end, stream, level, time_ns, payload)


def _next_record(data: bytes, start: int, base: int) -> Optional[Record]:
    position = data.find(_MAGIC, start)
    while position != -1:
        record = _record_at(data, position, base)
        if record is not None:
            return record
        position = data.find(_MAGIC, position + 1)
    return None

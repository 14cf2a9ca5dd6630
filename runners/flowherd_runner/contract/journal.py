"""The record format of a run's output: values into bytes and back, no file and no clock.

There are two sorts of records. Finished lines, logging records and notices stay. "Text so far" is what a stream has
written of a line whose end has not come: it holds until the next text so far, or the next line, of the same stream.

Text so far has a magic number of its own instead of a new stream number, because readers of releases that do not know
it must not take it for a line: they show unknown streams as lines of the log, but pass over bytes that begin no record
they know. So an agent of 0.1.0 that adopts such a run reads exactly the finished lines, and its offsets stay right.
"""

import re
import struct
import zlib
from typing import Iterable, Iterator, NamedTuple, Optional, Tuple

# Caps.

#: A longer line is journaled up to this length; a notice says how much was left out.
MAX_LINE_BYTES = 128 * 1024
#: Size at which a run's journal ends; later output is counted, not kept, and a notice says how much.
MAX_JOURNAL_BYTES = 1024 * 1024 * 1024
#: Longer text so far is shown by its beginning and its end.
MAX_SO_FAR_BYTES = 4 * 1024

STREAM_STDOUT = 1  # payload: one line as the process wrote it, without the newline
STREAM_STDERR = 2  # the same
# payload: JSON {"logger": str, "message": str, "task_run_id"?: str, "flow_run_id"?: str, "info"?: {...}} of one record:
# the flow run id when the record belongs to a subflow, which is a flow run other than the journal's; the info is what
# an engine sends with the record
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
#: A whole header: magic, stream, level, time, payload length and CRC.
HEADER = struct.Struct("<2sBBQII")
#: Begins the header of a record that stays, and that of text so far.
LINE_MAGIC = b"\xf1\x0e"
SO_FAR_MAGIC = b"\xf1\x0f"
_ANY_MAGIC = re.compile(b"\xf1[\x0e\x0f]")
#: In the stream's byte of text so far: the text has stood unfinished for so long that servers which take only whole
#: lines get it as a line of its own.
_STANDING = 0x80
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
    #: Text so far, not a finished line.
    so_far: bool = False
    #: Whether text so far is due as a line of its own, at servers that take only whole lines.
    standing: bool = False


def pack_record(stream: int, level: int, time_ns: int, payload: bytes) -> bytes:
    """One journal record as bytes; `level` is clamped to 0..255."""
    return pack_records(stream, level, time_ns, 0, (payload,))


def pack_records(stream: int, level: int, time_ns: int, step_ns: int, payloads: Iterable[bytes]) -> bytes:
    """Many journal records of one stream as bytes: the first of `time_ns`, each `step_ns` later than the one before."""
    level = max(0, min(255, level))
    head, header, crc32 = _HEAD.pack, HEADER.pack, zlib.crc32
    parts = []
    for payload in payloads:
        size = len(payload)
        crc = crc32(payload, crc32(head(LINE_MAGIC, stream, level, time_ns, size)))
        parts.append(header(LINE_MAGIC, stream, level, time_ns, size, crc))
        parts.append(payload)
        time_ns += step_ns
    return b"".join(parts)


def pack_so_far(stream: int, level: int, time_ns: int, payload: bytes, standing: bool) -> bytes:
    """One record of text so far as bytes."""
    stream |= _STANDING if standing else 0
    head = _HEAD.pack(SO_FAR_MAGIC, stream, max(0, min(255, level)), time_ns, len(payload))
    return head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload


def whole_records(data: bytes) -> Tuple[int, int]:
    """Where the last whole record of `data` ends, which begins with one, and how many of the records are lines.

    By the lengths alone; 0 if there is none. Also where bytes begin that are no record. Checksums are left to the
    reader of the records.
    """
    position, lines, header, last = 0, 0, HEADER_BYTES, len(data) - HEADER_BYTES
    unpack = HEADER.unpack_from
    while position <= last:
        magic, _, _, _, length, _ = unpack(data, position)
        end = position + header + length
        if end > len(data) or magic not in (LINE_MAGIC, SO_FAR_MAGIC):
            break
        position = end
        lines += magic == LINE_MAGIC
    return position, lines


def unpack_records(data: bytes, base: int = 0) -> Iterator[Record]:
    """The whole records in `data` that stay, as `unpack_all`; text so far is left out."""
    return (record for record in unpack_all(data, base) if not record.so_far)


def unpack_all(data: bytes, base: int = 0) -> Iterator[Record]:
    """The whole records in `data`, which begins at journal offset `base`, text so far included.

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
    return bool(
        _ANY_MAGIC.match(magic) and length <= MAX_LINE_BYTES * 2 and position + HEADER_BYTES + length > len(data)
    )


def _record_at(data: bytes, position: int, base: int) -> Optional[Record]:
    body = position + HEADER_BYTES
    if len(data) < body:
        return None
    magic, stream, level, time_ns, length = _HEAD.unpack_from(data, position)
    end = body + length
    if not _ANY_MAGIC.match(magic) or length > MAX_LINE_BYTES * 2 or len(data) < end:
        return None
    (crc,) = _CRC.unpack_from(data, body - _CRC.size)
    payload = bytes(data[body:end])
    if zlib.crc32(payload, zlib.crc32(data[position : position + _HEAD.size])) != crc:
        return None
    if magic == LINE_MAGIC:
        return Record(base + position, base + end, stream, level, time_ns, payload)
    standing = bool(stream & _STANDING)
    return Record(base + position, base + end, stream & ~_STANDING, level, time_ns, payload, True, standing)


def _next_record(data: bytes, start: int, base: int) -> Optional[Record]:
    for found in _ANY_MAGIC.finditer(data, start):
        record = _record_at(data, found.start(), base)
        if record is not None:
            return record
    return None

"""How release 0.1.0 reads a journal: a copy of what it does with the bytes, so that later journals are shown to it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

_HEAD = struct.Struct("<2sBBQI")
_CRC = struct.Struct("<I")
_MAGIC = b"\xf1\x0e"
_HEADER_BYTES = _HEAD.size + _CRC.size
_MAX_LINE_BYTES = 128 * 1024


def unpack_records(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """The stream and payload of each whole record, and where it ends."""
    position = 0
    while position < len(data):
        record = _record_at(data, position)
        if record is None:
            if _is_cut(data, position):
                return
            found = _next_record(data, position + 1)
            if found is None:
                return
            record = found
        yield record
        position = record[2]


def _is_cut(data: bytes, position: int) -> bool:
    if len(data) - position < _HEAD.size:
        return True
    magic, _, _, _, length = _HEAD.unpack_from(data, position)
    return bool(magic == _MAGIC and length <= _MAX_LINE_BYTES * 2 and position + _HEADER_BYTES + length > len(data))


def _record_at(data: bytes, position: int) -> tuple[int, bytes, int] | None:
    body = position + _HEADER_BYTES
    if len(data) < body:
        return None
    magic, stream, _, _, length = _HEAD.unpack_from(data, position)
    end = body + length
    if magic != _MAGIC or length > _MAX_LINE_BYTES * 2 or len(data) < end:
        return None
    (crc,) = _CRC.unpack_from(data, body - _CRC.size)
    payload = bytes(data[body:end])
    if zlib.crc32(payload, zlib.crc32(data[position : position + _HEAD.size])) != crc:
        return None
    return stream, payload, end


def _next_record(data: bytes, start: int) -> tuple[int, bytes, int] | None:
    position = data.find(_MAGIC, start)
    while position != -1:
        record = _record_at(data, position)
        if record is not None:
            return record
        position = data.find(_MAGIC, position + 1)
    return None

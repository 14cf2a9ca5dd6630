"""The lane's frames: a length, the length of the head, the head as JSON, then the body as bytes.

Both lengths are unsigned numbers of four bytes, most significant first. The first one counts all that follows it. Only
log lines have a body.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

#: Longest frame, bytes, without its first length.
MAX_FRAME_BYTES = 8 * 1024 * 1024
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_LENGTHS = struct.Struct(">II")
_LENGTH = struct.Struct(">I")


class BadFrame(ValueError):
    """What came is not a frame; there is no way to find the next one, so the connection has to be closed."""


class Frame(NamedTuple):
    """One message."""

    head: dict[str, Any]
    body: bytes = b""


def encode(head: Mapping[str, Any], body: bytes = b"") -> bytes:
    """Return a frame's bytes. Raises ValueError if it is larger than a frame may be.

    `head` is a JSON object; text in it may have lone surrogates.
    """
    text = _ENCODER.encode(head).encode("ascii")
    length = _LENGTH.size + len(text) + len(body)
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {length} bytes; {MAX_FRAME_BYTES} are allowed")
    return b"".join((_LENGTHS.pack(length, len(text)), text, body))


class FrameReader:
    """Finds the frames in bytes that come in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Add the bytes that have come."""
        self._data += data

    @property
    def is_within_frame(self) -> bool:
        """Whether the beginning of a frame has come whose end has not, once all frames were taken."""
        return bool(self._data)

    def frames(self) -> Iterator[Frame]:
        """Take the frames that have come whole. Raises BadFrame."""
        at = 0
        try:
            while (end := self._end(at)) is not None:
                frame = _decode(self._data, at, end)
                at = end
                yield frame
        finally:
            del self._data[:at]

    def _end(self, at: int) -> int | None:
        """Return where the frame that begins at `at` ends; None if it has not come whole."""
        if len(self._data) - at < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._data, at)
        if not _LENGTH.size <= length <= MAX_FRAME_BYTES:
            raise BadFrame(f"a frame of {length} bytes; {_LENGTH.size} to {MAX_FRAME_BYTES} are possible")
        end: int = at + _LENGTH.size + length
        return end if end <= len(self._data) else None


def _decode(data: bytearray, at: int, end: int) -> Frame:
    _, head_length = _LENGTHS.unpack_from(data, at)
    begin = at + _LENGTHS.size
    if begin + head_length > end:
        raise BadFrame(f"a head of {head_length} bytes in a frame of {end - begin}")
    with memoryview(data) as view:
        text, body = bytes(view[begin : begin + head_length]), bytes(view[begin + head_length : end])
    try:
        head = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"a head that is no JSON: {error}") from None
    if not isinstance(head, dict):
        raise BadFrame("a head that is no JSON object")
    return Frame(head, body)

"""Merges the lines of stdout and stderr and the logging records of one run into one order (docs/design.md, section 13).

A record arrives on a channel of its own; its place among the lines is that of its markers in the streams. The process
sends the record before it writes the markers, so when a marker was read, its record can be read too: callers read the
streams first, then the channel, and then `take`.

Pure: bytes and records in, ordered pieces out; the time is an argument.
"""

import re
from collections import OrderedDict, deque
from typing import Any, Deque, Dict, List, NamedTuple, Optional, Tuple, Union

from flowherd_runner.line_splitter import LineSplitter, Unfinished
from flowherd_runner.masking import Mask
from flowherd_runner.output_segments import SegmentReader

#: How long to wait for a missing marker or record, seconds: longer than a process is off the processor between the
#: two, and short for a reader.
PATIENCE_S = 1.0
#: Maximum size of what waits for missing markers.
MAX_WAITING_BYTES = 4 * 1024 * 1024
#: Maximum number of records that were given up and whose markers may still arrive; older ones are forgotten.
_MAX_OVERDUE = 4096
#: Maximum length of a marker: 16 hexadecimal digits, two numbers, four separators.
_MAX_MARKER_BYTES = 64
#: A marker of any run; compiled once for all runs, because compiling touches much of the memory that they share.
_MARKER = re.compile(rb"\x1e([0-9A-Za-z]+):([0-9]+[-+=][0-9]+)(?=\x1e)")


def make_marker(token: bytes, identity: str) -> bytes:
    """Return the marker of the record `identity` ("<pid>-<number>"); a pipe never splits it (PIPE_BUF, pipe(7))."""
    return make_segment_marker(token, identity.encode())


def make_segment_marker(token: bytes, mark: bytes) -> bytes:
    """Return the marker of the begin or end of a segment: see output_segments.py."""
    return b"\x1e%s:%s\x1e" % (token, mark)


class Lines(NamedTuple):
    """Whole lines of one stream, in order; `left_out` bytes were cut off the last one."""

    stream: int
    lines: List[bytes]
    left_out: int


class Logged(NamedTuple):
    """One logging record, as the caller gave it."""

    record: Any


Piece = Union[Lines, Logged]


class _Marker(NamedTuple):
    identity: str
    seen_at: float


class _Waiting(NamedTuple):
    streams: Tuple[int, ...]
    record: Any
    received_at: float
    size: int


class _Lane:
    """One stream: its lines and markers in the order of their arrival."""

    def __init__(
        self, stream: int, token: bytes, splitter: LineSplitter, segments: Optional[SegmentReader] = None
    ) -> None:
        self.ended = False
        self.segments = segments
        self.items: Deque[Tuple[Union[Lines, _Marker], int]] = deque()
        self.size = 0
        self._stream = stream
        self._splitter = splitter
        self._start = b"\x1e" + token
        self._token = token
        self._held = b""

    def feed(self, data: bytes, now: float) -> None:
        data = self._held + data
        self._held = b""
        position = 0
        if self._start in data:
            for match in _MARKER.finditer(data):
                if match.group(1) != self._token or match.start() < position:
                    continue
                self._add_lines(data[position : match.start()])
                self._add_marker(match.group(2), now)
                position = match.end() + 1
        end = self._whole_until(data, position)
        self._held = data[end:]
        self._add_lines(data[position:end])
        if self.segments is not None and not self._held:
            self._add_lines(self.segments.look(now))

    def _add_marker(self, mark: bytes, now: float) -> None:
        if b"-" in mark:
            self._add(_Marker(mark.decode(), now), _MAX_MARKER_BYTES)
        elif self.segments is not None:
            self._add_lines(self.segments.mark(mark, now))

    def _whole_until(self, data: bytes, position: int) -> int:
        """Return where an incomplete marker begins at the end of `data`; the end of `data` when there is none."""
        found = data.rfind(b"\x1e", max(position, len(data) - _MAX_MARKER_BYTES))
        if found == -1:
            return len(data)
        tail = data[found:]
        unfinished = self._start.startswith(tail) or tail.startswith(self._start + b":")
        return found if unfinished else len(data)

    def end(self) -> None:
        self._add_lines(self._held)
        self._held = b""
        if self.segments is not None:
            self._add_lines(self.segments.rest())
        for batch in self._splitter.finish():
            self._add(Lines(self._stream, *batch), len(batch.lines[0]))
        self.ended = True

    def _add_lines(self, data: bytes) -> None:
        if data:
            for batch in self._splitter.feed(data):
                self._add(Lines(self._stream, *batch), len(data))

    def _add(self, item: Union[Lines, _Marker], size: int) -> None:
        self.items.append((item, size))
        self.size += size

    def pop(self) -> Union[Lines, _Marker]:
        item, size = self.items.popleft()
        self.size -= size
        return item

    def unfinished(self) -> Optional[Unfinished]:
        """The state of the line that has no end yet, unless something has to come before it."""
        return None if self.items or self.ended else self._splitter.unfinished()

    def so_far(self, limit: int) -> bytes:
        """What the unfinished line shows, masked."""
        return self._splitter.so_far(limit)

    def marker(self) -> Optional[_Marker]:
        """Return the marker that is next in the stream; None when something else is."""
        item = self.items[0][0] if self.items else None
        return item if isinstance(item, _Marker) else None


class Merge:
    """Merges `streams` and the records whose markers carry `token`.

    `segments` is what the first of the streams has beside its pipe.
    """

    def __init__(
        self,
        token: bytes,
        streams: Tuple[int, ...],
        max_line_bytes: int,
        mask: Mask,
        segments: Optional[SegmentReader] = None,
    ) -> None:
        # The first of the streams is the one with segments.
        readers = (segments, *(None for _ in streams))
        self._lanes = {
            stream: _Lane(stream, token, LineSplitter(max_line_bytes, mask), reader)
            for stream, reader in zip(streams, readers)
        }
        self._waiting: "OrderedDict[str, _Waiting]" = OrderedDict()
        self._waiting_bytes = 0
        self._overdue: "OrderedDict[str, Dict[int, None]]" = OrderedDict()
        self._records_ended = False

    def feed(self, stream: int, data: bytes, now: float) -> None:
        """Take bytes that were read from `stream`."""
        self._lanes[stream].feed(data, now)

    def end(self, stream: int) -> None:
        """Note that `stream` has ended."""
        if not self._lanes[stream].ended:
            self._lanes[stream].end()

    def add_record(self, identity: str, streams: Tuple[int, ...], record: Any, size: int, now: float) -> None:
        """Take a record of `size` bytes whose markers are, or soon will be, in `streams`."""
        while identity in self._waiting:  # not from our handler, which uses no identity twice
            identity += "'"
        known = tuple(stream for stream in streams if stream in self._lanes)
        self._waiting[identity] = _Waiting(known, record, now, size)
        self._waiting_bytes += size

    def end_records(self) -> None:
        """Note that no more records arrive."""
        self._records_ended = True

    def take(self, now: float) -> List[Piece]:
        """Return all that has its place by now, in order."""
        pieces: List[Piece] = []
        while True:
            self._advance(now, pieces)
            identity = self._next_record(now)
            if identity is None:
                return pieces
            self._release(identity, pieces)

    def unfinished(self, stream: int) -> Optional[Unfinished]:
        """The state of the line of `stream` that has no end yet; None while all that came before it was not taken."""
        return self._lanes[stream].unfinished()

    def so_far(self, stream: int, limit: int) -> bytes:
        """What the unfinished line of `stream` shows, masked."""
        return self._lanes[stream].so_far(limit)

    def deadline(self) -> Optional[float]:
        """Return when `take` would return more although nothing new was fed; None when nothing waits."""
        times = [waiting.received_at for waiting in self._waiting.values()][:1]
        times += [marker.seen_at for marker in self._markers().values()]
        times = [time_s + PATIENCE_S for time_s in times]
        looks = (lane.segments.deadline() for lane in self._lanes.values() if lane.segments is not None)
        return min((*times, *(time_s for time_s in looks if time_s is not None)), default=None)

    def _markers(self) -> Dict[int, _Marker]:
        found = ((stream, lane.marker()) for stream, lane in self._lanes.items())
        return {stream: marker for stream, marker in found if marker is not None}

    def _advance(self, now: float, pieces: List[Piece]) -> None:
        """Move every stream forward to a marker of a waiting record."""
        for stream, lane in self._lanes.items():
            while lane.items:
                marker = lane.marker()
                if marker is not None and not self._passed(stream, marker, now):
                    break
                item = lane.pop()
                if isinstance(item, Lines):
                    pieces.append(item)

    def _passed(self, stream: int, marker: _Marker, now: float) -> bool:
        """Whether `marker` can be skipped: its record was given up, or no such record will arrive."""
        overdue = self._overdue.get(marker.identity)
        if overdue is not None:
            overdue.pop(stream, None)
            if not overdue:
                del self._overdue[marker.identity]
            return True
        if marker.identity in self._waiting:
            return stream not in self._waiting[marker.identity].streams
        return self._records_ended or now >= marker.seen_at + PATIENCE_S or self._too_much()

    def _too_much(self) -> bool:
        return self._waiting_bytes + sum(lane.size for lane in self._lanes.values()) > MAX_WAITING_BYTES

    def _next_record(self, now: float) -> Optional[str]:
        """Return the record that is next; None when all must wait."""
        if not self._waiting:
            return None
        oldest, waiting = next(iter(self._waiting.items()))
        if not waiting.streams or now >= waiting.received_at + PATIENCE_S or self._too_much():
            return oldest
        reached = self._markers()
        at_markers = {marker.identity for marker in reached.values()} | {oldest}
        complete = [one for one in at_markers & set(self._waiting) if self._is_complete(one, reached)]
        if complete:
            return complete[0]
        return self._of_a_cycle(reached)

    def _is_complete(self, identity: str, reached: Dict[int, _Marker]) -> bool:
        """Whether every stream with a marker of the record has reached it, or has ended before it."""
        for stream in self._waiting[identity].streams:
            lane = self._lanes[stream]
            if stream in reached:
                if reached[stream].identity != identity:
                    return False
            elif not lane.ended:
                return False
        return True

    def _of_a_cycle(self, reached: Dict[int, _Marker]) -> Optional[str]:
        """Return the older of two records if each blocks a stream that the other needs, else None.

        Two processes of one run write their markers independently, so the streams may disagree on their order.
        """
        held = {stream: marker.identity for stream, marker in reached.items() if marker.identity in self._waiting}
        if len(held) < len(self._lanes) or len(set(held.values())) < 2:
            return None
        if all(set(held) <= set(self._waiting[identity].streams) for identity in held.values()):
            return next(identity for identity in self._waiting if identity in held.values())
        return None

    def _release(self, identity: str, pieces: List[Piece]) -> None:
        waiting = self._waiting.pop(identity)
        self._waiting_bytes -= waiting.size
        pieces.append(Logged(waiting.record))
        missing: Dict[int, None] = {}
        for stream in waiting.streams:
            lane = self._lanes[stream]
            marker = lane.marker()
            if marker is not None and marker.identity == identity:
                lane.pop()
            elif not lane.ended or lane.items:
                missing[stream] = None
        if missing:
            self._overdue[identity] = missing
            if len(self._overdue) > _MAX_OVERDUE:
                self._overdue.popitem(last=False)

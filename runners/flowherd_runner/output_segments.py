r"""Memory that a flow process shares with its runner, through which output that comes quickly reaches the journal.

A write(2) for each line costs several times what printing it costs. A process that prints many lines in a short time
therefore puts them into this memory: what is there is not lost when the process is killed, as lines in a buffer of its
own would be. Both ends are of one release, one forked from the other.

A segment is all zeros, and is filled from its beginning. So no counter has to agree with its content: it reaches to
the first zero, or further, if the text itself has zeros and its end was marked. A marker in the pipe of the stream
says where the text belongs: "\x1eTOKEN:2+0\x1e" begins segment 2, "\x1eTOKEN:2=500\x1e" ends it after 500 bytes.
Between the two, the text follows what was in the pipe before.

A process that pauses within a segment is not waited for: the runner looks for some time, then says "asleep", and the
process marks the end of the segment with its next line, which wakes the runner.
"""

import mmap
from typing import Optional

#: One is filled in some milliseconds, and read meanwhile; more are for moments at which the runner gets no processor.
SEGMENT_BYTES = 256 * 1024
SEGMENTS = 4
#: The runner's look at a segment that is being filled, and how long nothing must come until it stops, seconds.
_LOOK_S = 0.01
_ASLEEP_AFTER_S = 0.1
_PIECE_BYTES = 64 * 1024
_ASLEEP = SEGMENTS
_MAX_DIGITS = 7


class Segments:
    """The memory itself, made before the fork. Nothing of it is in use until the process has begun a segment."""

    def __init__(self) -> None:
        self.memory = [mmap.mmap(-1, SEGMENT_BYTES) for _ in range(SEGMENTS)]
        #: A byte for each segment, 1 from its begin in the flow process until the runner has emptied it; "asleep".
        self.flags = mmap.mmap(-1, mmap.PAGESIZE)
        #: How much of each this process has filled the last time.
        self.sizes = [0] * SEGMENTS

    def claim(self) -> Optional[int]:
        """Take a segment that is empty, for the flow process; None if there is none."""
        for number, memory in enumerate(self.memory):
            # The zeros too: seeing them means that no earlier write of the runner's can still arrive.
            size = self.sizes[number]
            if not self.flags[number] and memory[:size] == bytes(size):
                self.flags[number] = 1
                return number
        return None

    def release(self, number: int, size: int) -> None:
        """Empty a segment of `size` bytes, in the runner."""
        self.memory[number][:size] = bytes(size)
        self.flags[number] = 0

    @property
    def is_asleep(self) -> bool:
        """Whether the runner has stopped looking at the segment that is being filled."""
        return bool(self.flags[_ASLEEP])

    def set_asleep(self, asleep: bool) -> None:
        """Note whether the runner looks."""
        self.flags[_ASLEEP] = asleep


class SegmentReader:
    """The runner's side, of one stream."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        #: Number of the segment that is being filled, and how much of it was taken.
        self._current: Optional[int] = None
        self._taken = 0
        self._looks = False
        self._news_at_s = 0.0
        self._look_at_s = 0.0

    def mark(self, mark: bytes, now_s: float) -> bytes:
        """Return the text that comes before a marker with this content, and was not taken yet."""
        sign = b"+" if b"+" in mark else b"="
        number_text, _, size_text = mark.partition(sign)
        if len(number_text) > 1 or len(size_text) > _MAX_DIGITS or int(number_text) >= SEGMENTS:
            return b""  # printed by somebody who has found the token
        number, size = int(number_text), min(int(size_text), SEGMENT_BYTES)
        if sign == b"=":
            return self._end(size) if number == self._current else b""
        text = self.rest()  # the end of the segment before could not be marked
        self._current, self._taken = number, 0
        self._looks, self._news_at_s, self._look_at_s = True, now_s, now_s + _LOOK_S
        return text

    def _end(self, size: int) -> bytes:
        number, taken, self._current = self._current, self._taken, None
        assert number is not None
        text = self._segments.memory[number][taken:size]
        self._segments.release(number, max(size, taken))
        return text

    def look(self, now_s: float) -> bytes:
        """Return what has come in the segment that is being filled."""
        if self._current is None or not self._looks:
            return b""
        text = self._new_text(self._segments.memory[self._current])
        self._taken += len(text)
        self._look_at_s = now_s + _LOOK_S
        if text:
            self._news_at_s = now_s
        elif now_s >= self._news_at_s + _ASLEEP_AFTER_S:
            # One more look after saying so: a line may have been on its way.
            self._looks = not self._segments.is_asleep
            self._segments.set_asleep(True)
        return text

    def _new_text(self, memory: mmap.mmap) -> bytes:
        pieces = []
        for start in range(self._taken, SEGMENT_BYTES, _PIECE_BYTES):
            piece = memory[start : start + _PIECE_BYTES]
            end = piece.find(b"\0")
            pieces.append(piece if end < 0 else piece[:end])
            if end >= 0:
                break
        return b"".join(pieces)

    def rest(self) -> bytes:
        """Return all that is in the segment whose process has ended, or has begun another."""
        if self._current is None:
            return b""
        return self._end(self._taken + len(self._segments.memory[self._current][self._taken :].rstrip(b"\0")))

    def deadline(self) -> Optional[float]:
        """When `look` is due, by the clock of its argument; None when nothing has to be looked at."""
        return self._look_at_s if self._current is not None and self._looks else None

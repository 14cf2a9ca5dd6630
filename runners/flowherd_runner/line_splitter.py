r"""Chunks of bytes into lines, with a bound on what one line may keep in memory. Pure: no descriptor, no clock.

A carriage return begins a line anew, as on a terminal: of "\r 10%\r 20%\n" the line " 20%" is kept, and of a bar that
is wiped at its end ("\r 99%\r     \r") its last state. A line over the limit keeps its beginning and its end.
"""

import re
from typing import List, NamedTuple, Optional

from flowherd_runner.masking import Mask, Span, replace_spans, trim_end, trim_start

#: Between the beginning and the end of a line that was too long.
LEFT_OUT_MARK = b" [...] "
#: What wipes a line or moves the cursor shows nothing (ECMA-48, control sequences).
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Batch(NamedTuple):
    """Whole lines, in order, without their line ends."""

    lines: List[bytes]
    #: Bytes that were left out of the last line because it was too long; a batch ends with such a line.
    left_out: int


class Unfinished(NamedTuple):
    """Which state an unfinished line is in: equal values mean an unchanged line."""

    #: Number of lines that the stream has had before.
    line: int
    #: Bytes of the line that have come.
    fed: int


class _Text:
    """One text that grows: its beginning and its end, each at most `keep` bytes (the end: twice that)."""

    def __init__(self, keep: int, data: bytes = b"") -> None:
        self._keep = keep
        self.head = bytearray()
        self.tail = bytearray()
        self.size = 0
        self.add(data)

    def add(self, data: bytes) -> None:
        self.size += len(data)
        room = self._keep - len(self.head)
        self.head += data[:room]
        if len(data) > room:
            self.tail += data[max(room, len(data) - self._keep) :]
            if len(self.tail) > 2 * self._keep:
                del self.tail[: -self._keep]

    def is_blank(self) -> bool:
        return _is_blank(bytes(self.head))

    def fitted(self, limit: int, mask: Mask) -> Batch:
        """The masked text, with its middle left out when it is longer than `limit`."""
        if self.size <= min(limit, self._keep):
            return Batch([mask.line(bytes(self.head))], 0)
        whole = len(self.head) + len(self.tail) == self.size
        left = bytes(self.head + self.tail) if whole else bytes(self.head)
        right = left if whole else bytes(self.tail)
        end_size = min(limit // 4, len(right))
        left_spans = mask.spans(left)
        right_spans = left_spans if whole else mask.spans(right)
        # A secret that straddles a cut is left out whole.
        end = trim_end(left, min([limit - end_size, *_starts_across(left_spans, limit - end_size)]))
        start = len(right) - end_size
        start = trim_start(right, max([start, *_ends_across(right_spans, start)]))
        left_out = self.size - end - (len(right) - start)
        shown = [replace_spans(left, left_spans, 0, end), replace_spans(right, right_spans, start, len(right))]
        return Batch([LEFT_OUT_MARK.join(shown)], left_out)


def _starts_across(spans: List[Span], place: int) -> List[int]:
    return [span.start for span in spans if span.start < place < span.end]


def _ends_across(spans: List[Span], place: int) -> List[int]:
    return [span.end for span in spans if span.start < place < span.end]


class LineSplitter:
    r"""Splits what one stream brings at its newlines; "\r\n" ends a line as "\n" does."""

    def __init__(self, max_line_bytes: int, mask: Mask) -> None:
        self._max = max_line_bytes
        self._mask = mask
        self._lines = 0
        #: Bytes of the unfinished line that have come.
        self._fed = 0
        #: What stands in it since its last carriage return, and what stood before it, if anything visible did.
        self._text = self._new_text()
        self._before = self._new_text()

    def feed(self, data: bytes) -> List[Batch]:
        """Return the lines that `data` completes."""
        lines = data.split(b"\n")
        rest = lines.pop()
        batches: List[Batch] = []
        if lines:
            self._lines += len(lines)
            self._grow(lines[0])
            batches.append(self._complete())
            del lines[0]
            self._whole(lines, data, batches)
        self._grow(rest)
        return batches

    def finish(self) -> List[Batch]:
        """The last line, if it lacks its newline."""
        return [self._complete()] if self._fed else []

    def unfinished(self) -> Optional[Unfinished]:
        """The state of the line whose newline has not come; None when there is none."""
        return Unfinished(self._lines, self._fed) if self._fed else None

    def so_far(self, limit: int) -> bytes:
        """What the unfinished line shows, masked, in about `limit` bytes; what may become a secret is held back."""
        [line], _ = self._shown().fitted(min(limit, self._max), self._mask)
        return line[: self._mask.safe_end(line)]

    def _grow(self, part: bytes) -> None:
        self._fed += len(part)
        if b"\r" not in part:
            self._text.add(part)
            return
        first, *rest = part.split(b"\r")
        self._text.add(first)
        self._overwrite(self._text)
        for ended in reversed(rest[:-1]):
            if not _is_blank(ended):
                self._overwrite(self._new_text(ended))
                break
        self._text = self._new_text(rest[-1])

    def _overwrite(self, ended: _Text) -> None:
        """Remember what stood in the line before a carriage return, unless it is blank."""
        if not ended.is_blank():
            self._before = ended

    def _shown(self) -> _Text:
        return self._before if self._before.size and self._text.is_blank() else self._text

    def _new_text(self, data: bytes = b"") -> _Text:
        return _Text(self._max + self._mask.overlap_bytes + 1, data)

    def _complete(self) -> Batch:
        batch = self._shown().fitted(self._max, self._mask)
        self._fed = 0
        self._text, self._before = self._new_text(), self._new_text()
        return batch

    def _whole(self, lines: List[bytes], data: bytes, batches: List[Batch]) -> None:
        """Add `lines` of `data`, none of which has a part in an earlier chunk."""
        if not lines:
            return
        if max(map(len, lines)) > self._max:
            for line in lines:
                self._grow(line)
                batches.append(self._complete())
            return
        if b"\r" in data:
            lines = [_last_state(line) for line in lines]
        # One look at all lines together: most chunks hold no secret.
        if self._mask.occurs_in(data):
            lines = [self._mask.line(line) for line in lines]
        batches.append(Batch(lines, 0))


def _last_state(line: bytes) -> bytes:
    """What a line with carriage returns shows at its end."""
    if b"\r" not in line:
        return line
    states = line.split(b"\r")
    return next((state for state in reversed(states) if not _is_blank(state)), states[-1])


def _is_blank(text: bytes) -> bool:
    return not _CONTROL.sub(b"", text).strip()

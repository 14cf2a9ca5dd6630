"""Splits chunks of bytes into lines, with a limit on the memory for one line. Pure: no descriptor, no clock."""

from typing import List, NamedTuple

from flowherd_runner.masking import Mask


class Batch(NamedTuple):
    """Whole lines, in order, without their line ends."""

    lines: List[bytes]
    #: Bytes that were left out of the last line because it was too long; a batch ends with such a line.
    left_out: int


class LineSplitter:
    r"""Splits the bytes of one stream at newlines; "\r\n" ends a line like "\n", every other byte is kept."""

    def __init__(self, max_line_bytes: int, mask: Mask) -> None:
        self._max = max_line_bytes
        self._mask = mask
        self._keep = max_line_bytes + mask.overlap_bytes + 1
        self._partial = bytearray()
        self._lost = 0

    def feed(self, data: bytes) -> List[Batch]:
        """Return the lines that `data` completes."""
        lines = data.split(b"\n")
        rest = lines.pop()
        batches: List[Batch] = []
        if lines:
            self._grow(lines[0])
            batches.append(self._complete())
            del lines[0]
            self._whole(lines, b"\r\n" in data, batches)
        self._grow(rest)
        return batches

    def finish(self) -> List[Batch]:
        """Return the last line if it has no newline."""
        return [self._complete(end_seen=False)] if self._partial else []

    def _grow(self, part: bytes) -> None:
        room = self._keep - len(self._partial)
        self._partial += part[:room]
        self._lost += max(0, len(part) - room)

    def _complete(self, end_seen: bool = True) -> Batch:
        line, lost = bytes(self._partial), self._lost
        del self._partial[:]
        self._lost = 0
        if end_seen and not lost and line.endswith(b"\r"):
            line = line[:-1]
        if lost or len(line) > self._max:
            line, left_out = self._mask.cut(line, self._max)
            return Batch([line], lost + left_out)
        return Batch([self._mask.line(line)], 0)

    def _whole(self, lines: List[bytes], returns: bool, batches: List[Batch]) -> None:
        """Add `lines`, none of which began in an earlier chunk."""
        if not lines:
            return
        if max(map(len, lines)) > self._max:
            for line in lines:
                self._grow(line)
                batches.append(self._complete())
            return
        if returns:
            lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
        if self._mask:
            lines = [self._mask.line(line) for line in lines]
        batches.append(Batch(lines, 0))

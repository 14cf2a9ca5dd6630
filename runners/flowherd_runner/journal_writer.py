"""Appends a run's output to its journal: strictly increasing times, a size cap, no torn record when the disk is full.

Never raises when the disk refuses a write: output is then dropped and counted, and the journal says so as soon as it
can. Knows no stream of the run; the record format is contract/journal.py.
"""

import json
import os
import time
from typing import Callable, Dict, List, Optional

from flowherd_runner.contract.journal import HEADER_BYTES, STREAM_NOTICE, pack_records, pack_so_far, unpack_all

#: Space below the cap that is kept for notices about the cap.
_NOTICE_ROOM_BYTES = 4096
#: Pause between two attempts to write to a disk that refused, seconds.
_RETRY_S = 1.0
#: Shares of the journal's cap: when text so far has taken the first, it is rare, and with the second it ends.
_SO_FAR_RARE_SHARE = 1 / 8
_SO_FAR_SHARE = 1 / 4
_SO_FAR_RARE_S = 60.0
_STEP_NS = 1000
_INFO = 20
_WARNING = 30


class JournalWriter:
    """The journal behind `fd` (opened for appending), with at most `max_bytes` in it."""

    def __init__(self, fd: int, max_bytes: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._max_bytes = max_bytes
        self._clock_s = clock_s
        self._wall_ns = time.time_ns() - time.monotonic_ns()
        self._last_ns = 0
        #: Time of the run's first line, nanoseconds; 0 before it.
        self._first_ns = 0
        #: Length of the whole records in the journal, bytes.
        self._size = os.fstat(fd).st_size
        #: Whether there may be something in it that is not on the disk.
        self._is_unsettled = self._size > 0
        self._buffer: List[bytes] = []
        self._buffered = 0
        self._buffered_lines = 0
        self._capped = False
        self._refused_by: Optional[OSError] = None
        self._retry_at_s = 0.0
        self._refused_lines = 0
        self._lines_beyond_cap = 0
        self._lines = 0
        self._lines_refused_before = 0
        self._so_far_bytes = 0
        self._so_far_at_s = 0.0

    @property
    def lines(self) -> int:
        """Number of lines and records in the journal."""
        return self._lines

    @property
    def lines_dropped(self) -> int:
        """Number of lines and records that are not in it, because of the cap or a disk that refused."""
        return self._lines_refused_before + self._refused_lines + self._lines_beyond_cap

    @property
    def first_line(self) -> Dict[str, float]:
        """When the run's first line came, seconds since the epoch, as a phase of exit.json; empty before it."""
        return {"first_line": self._first_ns / 1e9} if self._first_ns else {}

    def add(self, stream: int, level: int, payloads: List[bytes]) -> None:
        """Add one record for each of `payloads`; they are written with the next `flush`."""
        if self._refused_by is not None and not self._accepted_again():
            self._refused_lines += len(payloads)
            return
        size = sum(map(len, payloads)) + HEADER_BYTES * len(payloads)
        fitting = payloads if self._fits(size) else self._that_fit(payloads)
        if fitting:
            self._append(stream, level, fitting)
        beyond = len(payloads) - len(fitting)
        if beyond:
            self._reach_cap()
            self._lines_beyond_cap += beyond

    def add_so_far(self, stream: int, level: int, text: bytes, standing: bool) -> None:
        """Take what a stream has of its unfinished line.

        Left out when the disk refuses, and when all text so far together has had its share of the journal: progress
        must not cost lines.
        """
        size = HEADER_BYTES + len(text)
        now_s = self._clock_s()
        if self._so_far_bytes > self._max_bytes * _SO_FAR_RARE_SHARE and now_s < self._so_far_at_s + _SO_FAR_RARE_S:
            return
        if self._refused_by is not None or self._so_far_bytes + size > self._max_bytes * _SO_FAR_SHARE:
            return
        if not self._fits(size):
            return
        self._so_far_bytes += size
        self._so_far_at_s = now_s
        self._take(pack_so_far(stream, level, self._next_ns(), text, standing))

    def notice(self, message: str, warning: bool = True) -> None:
        """Take one line in flowherd's own words about this run; left out when the journal is full or refused."""
        payload = _notice(message)
        if self._refused_by is None and self._fits(HEADER_BYTES + len(payload)):
            self._append(STREAM_NOTICE, _WARNING if warning else _INFO, [payload])

    def flush(self) -> None:
        """Write all that was added in one call; what the disk does not take is counted as dropped."""
        data, lines = b"".join(self._buffer), self._buffered_lines
        self._buffer, self._buffered, self._buffered_lines = [], 0, 0
        if not data:
            return
        written = self._write(data)
        whole = lines if written == len(data) else self._drop_torn(data, written)
        self._lines += whole
        self._refused_lines += lines - whole

    def close(self) -> None:
        """Write what is left and how much was dropped, and flush the file, as far as the disk allows."""
        self.flush()
        if self._refused_by is not None:
            self._try_again()
        if self._lines_beyond_cap and self._refused_by is None:
            self._add_journal_notice(
                "{} lines came after the log was full and were left out".format(self._lines_beyond_cap)
            )
            self.flush()
        self.settle()  # before exit.json: a run that is known to have ended has its whole log after a power cut too
        os.close(self._fd)

    def settle(self) -> None:
        """Have on the disk what was written so far, as far as the disk allows.

        Without anything new there is no flush: even that of an unchanged file waits for the disk.
        """
        if not self._is_unsettled:
            return
        try:
            os.fdatasync(self._fd)
            self._is_unsettled = False
        except OSError:
            pass  # the disk refused this before, and that was counted

    def _fits(self, size: int) -> bool:
        return not self._capped and self._size + self._buffered + size <= self._max_bytes - _NOTICE_ROOM_BYTES

    def _that_fit(self, payloads: List[bytes]) -> List[bytes]:
        size, count = 0, 0
        while count < len(payloads) and self._fits(size + HEADER_BYTES + len(payloads[count])):
            size += HEADER_BYTES + len(payloads[count])
            count += 1
        return payloads[:count]

    def _reach_cap(self) -> None:
        if not self._capped:
            self._capped = True
            self._add_journal_notice(
                "the log has reached its limit of {} bytes; later lines are left out".format(self._max_bytes)
            )

    def _add_journal_notice(self, message: str) -> None:
        """Add a notice about the journal itself, for which there is space below the cap."""
        payload = _notice(message)
        if self._size + self._buffered + HEADER_BYTES + len(payload) <= self._max_bytes:
            self._append(STREAM_NOTICE, _WARNING, [payload])

    def _append(self, stream: int, level: int, payloads: List[bytes]) -> None:
        time_ns = self._next_ns()
        self._take(pack_records(stream, level, time_ns, _STEP_NS, payloads))
        self._last_ns = time_ns + _STEP_NS * (len(payloads) - 1)
        if stream != STREAM_NOTICE:
            self._first_ns = self._first_ns or time_ns
            self._buffered_lines += len(payloads)

    def _next_ns(self) -> int:
        """Times begin at the wall clock of the start and go on monotonically, so setting the clock does no harm."""
        self._last_ns = max(self._last_ns + _STEP_NS, self._wall_ns + time.monotonic_ns())
        return self._last_ns

    def _take(self, records: bytes) -> None:
        self._buffer.append(records)
        self._buffered += len(records)

    def _write(self, data: bytes) -> int:
        """Append `data`, and return how many bytes the file took; when it took less, remember why."""
        written = 0
        self._is_unsettled = True
        view = memoryview(data)
        try:
            while written < len(data):
                written += os.write(self._fd, view[written:])
        except OSError as error:
            self._refused_by = error
            self._retry_at_s = self._clock_s() + _RETRY_S
            return written
        self._size += written
        return written

    def _drop_torn(self, data: bytes, written: int) -> int:
        """Remove the torn record from the end of the journal, and return how many lines of `data` are in it whole."""
        end, lines = 0, 0
        for record in unpack_all(data[:written]):
            end = record.end
            lines += not record.so_far and record.stream != STREAM_NOTICE
        self._size += end
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._size += written - end  # a reader skips the torn record
        return lines

    def _accepted_again(self) -> bool:
        """Whether the disk that refused takes output again; tries it from time to time."""
        if self._clock_s() >= self._retry_at_s:
            self._try_again()
        return self._refused_by is None

    def _try_again(self) -> None:
        """Write how much was dropped; when the disk takes that, it takes output again."""
        lost, error = self._refused_lines, self._refused_by
        self._refused_by = None
        self._add_journal_notice(
            "{} lines were left out because the disk refused them: {}".format(lost, error and error.strerror)
        )
        self.flush()
        if self._refused_by is None:
            self._refused_lines = 0
            self._lines_refused_before += lost


def _notice(message: str) -> bytes:
    return json.dumps({"message": message}, ensure_ascii=False).encode("utf-8", "replace")

"""Standard output of a flow process: writes line by line, and through shared memory while lines come quickly.

See output_segments.py. What other code can see keeps its order: before a process is started or descriptor 1 is
replaced, and when the stream is flushed, the end of a segment is marked, and lines are written one by one again.
"""

import io
import mmap
import os
import sys
import threading
import time
from typing import Any, Callable, Optional

from flowherd_runner.merge import make_segment_marker
from flowherd_runner.osapi import file_identity
from flowherd_runner.output_segments import SEGMENT_BYTES, Segments

#: This many lines within this time, seconds, are quick.
_MANY_LINES = 64
_QUICK_S = 0.004
#: After a flush by the user's code within quick lines, this many lines are written one by one: it wants each written.
_LINES_AFTER_FLUSH = 10_000
#: Audit events (PEP 578) before which output must be in the pipe, because what they start may print too.
_STARTS = frozenset(("subprocess.Popen", "os.posix_spawn", "os.spawn", "os.system", "os.exec"))
_write = io.BufferedWriter.write
_flush = io.BufferedWriter.flush


class SegmentWriter(io.BufferedWriter):
    """The buffer below sys.stdout. Needs audit hooks, so Python 3.8; before that it is an ordinary one.

    The interpreter calls `write` and `flush` once for each line. While a segment is being filled, both are replaced by
    closures of the object, which are quicker.

    The lines of a thread stay in order, although others switch between the two ways: without a segment, a line is added
    to the buffer under the lock of the switches, and a switch leaves nothing in the buffer. A closure of an earlier
    segment that a thread still holds finds that segment full, until its next begin is in the pipe.
    """

    def __init__(self, raw: io.FileIO, segments: Segments, token: bytes) -> None:
        super().__init__(raw)
        self._segments: Optional[Segments] = segments if hasattr(sys, "addaudithook") else None
        self._token = token
        self._identity = file_identity(raw.fileno())
        self._lines = 0
        self._since_s = 0.0
        #: Number of the segment that is being filled.
        self._current: Optional[int] = None
        self._lock = threading.RLock()
        self._switching = False
        self._has_hooks = False
        if self._segments is not None:
            os.register_at_fork(after_in_child=self._forget)

    def write(self, data: Any) -> int:
        """Add to the buffer; called for each line while no segment is being filled."""
        if self._segments is None:
            return _write(self, data)
        with self._lock:
            if self._current is None or self._switching:
                return _write(self, data)
        return self.write(data)  # another thread has begun a segment meanwhile

    def flush(self) -> None:
        """Write what is buffered; called after each line."""
        _flush(self)
        self._lines += 1
        if self._lines >= _MANY_LINES and self._segments is not None:
            now_s = time.monotonic()
            is_quick = now_s - self._since_s < _QUICK_S
            self._lines, self._since_s = 0, now_s
            if is_quick:
                self._switch(self._begin)

    def close(self) -> None:
        """Write what is buffered, and close."""
        self.write_by_line()
        super().close()

    def write_by_line(self) -> None:
        """Mark the end of the segment that is being filled, and write lines one by one again."""
        if self._current is not None:
            self._switch(lambda: self._send(self._end()))

    def _switch(self, step: Callable[[], Any]) -> None:
        """Take a step from one way of writing to the other, unless a signal handler has interrupted one."""
        with self._lock:
            if self._switching:
                return
            self._switching = True
            try:
                step()
            finally:
                self._switching = False

    def _begin(self, mark_before: bytes = b"") -> None:
        """Begin a segment if one is empty; `mark_before` is sent in any case."""
        number = None if self._segments is None or self._current is not None else self._segments.claim()
        if number is None or self._segments is None:
            self._send(mark_before)
            return
        if not self._has_hooks:
            self._has_hooks = True
            self._watch_others()
        self._segments.set_asleep(False)
        _flush(self)  # what another thread has added
        if self._send(mark_before + make_segment_marker(self._token, b"%d+0" % number)):
            self._segments.memory[number].seek(0)
            self._current = number
            self._use(self._segments, number)
        else:
            self._segments.release(number, 0)

    def _end(self) -> bytes:
        """End the segment; return its marker."""
        number, self._current = self._current, None
        vars(self).pop("write", None)
        vars(self).pop("flush", None)
        self._lines = 0
        if number is None or self._segments is None:
            return b""
        memory = self._segments.memory[number]
        size = _fill_up(memory)
        self._segments.sizes[number] = size
        return make_segment_marker(self._token, b"%d=%d" % (number, size))

    def _send(self, marks: bytes) -> bool:
        """Write markers to the pipe; return whether it was possible.

        The runner does without the end of a segment: it takes all that is there before the next begin.
        """
        try:
            if file_identity(self.fileno()) != self._identity:
                return False  # redirected by the user's code
            return os.write(self.fileno(), marks) == len(marks)
        except (OSError, ValueError):
            return False

    def _use(self, segments: Segments, number: int) -> None:
        """Have lines written to the segment."""
        put, flags, asleep, full = segments.memory[number].write, segments.flags, len(segments.memory), self._full
        ident = threading.get_ident
        line_of = 0  # the thread that has written a line and not flushed it yet

        def write(data: Any) -> int:
            nonlocal line_of
            line_of = ident()
            if flags[asleep]:
                return full(number, data, False)
            try:
                return put(data)
            except ValueError:
                return full(number, data, True)

        def flush() -> None:
            nonlocal line_of
            if line_of == ident():  # the interpreter's, after the line
                line_of = 0
                return
            self.write_by_line()
            _flush(self)
            self._lines = -_LINES_AFTER_FLUSH

        setattr(self, "write", write)  # noqa: B010 - mypy takes an assignment for an error
        setattr(self, "flush", flush)  # noqa: B010

    def _full(self, number: int, data: Any, go_on: bool) -> int:
        """Write `data`, for which segment `number` has no room; with `go_on` to another segment."""

        def step() -> None:
            if self._current != number:
                return  # another thread was here
            mark = self._end()
            if go_on and len(data) < SEGMENT_BYTES:
                self._begin(mark)
            else:
                self._send(mark)

        with self._lock:
            self._switch(step)
            if self._current is None or self._switching:
                count = _write(self, data)
                _flush(self)
                return count
        return self.write(data)

    def _watch_others(self) -> None:
        """Have lines in the pipe before anything else can write to it."""
        by_line, starts = self.write_by_line, _STARTS

        def audit(event: str, _arguments: Any) -> None:
            if event in starts:
                by_line()

        sys.addaudithook(audit)
        os.register_at_fork(before=by_line)
        replace = os.dup2

        def dup2(fd: int, fd2: int, inheritable: bool = True) -> int:
            by_line()
            return replace(fd, fd2, inheritable)

        dup2.__doc__ = replace.__doc__
        os.dup2 = dup2

    def _forget(self) -> None:
        """In a forked child, which must not write to the segments of its parent."""
        self._segments, self._current, self._switching = None, None, False
        self._lock = threading.RLock()
        vars(self).pop("write", None)
        vars(self).pop("flush", None)


def _fill_up(memory: mmap.mmap) -> int:
    """Leave no room in a segment, also for other threads; return how much of it is text."""
    while True:
        size = memory.tell()
        try:
            memory.seek(SEGMENT_BYTES - size, os.SEEK_CUR)
            return size
        except ValueError:  # another thread has added to it, so that this would be beyond its end
            continue

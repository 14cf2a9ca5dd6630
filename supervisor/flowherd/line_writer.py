"""Writes lines in a thread of its own, so that a reader who is slow, stuck or gone never blocks the program.

A pipe that nobody reads, a full disk or a closed descriptor costs lines, never time: the caller only puts its line into
a bounded queue. Lines that find the queue full are dropped and counted, and once writing works again one line says how
many were lost and why. Lines stay whole and in order: a line that was written in part is completed first.

A daemon thread, because a thread that the interpreter waits for at its end would bring the waiting back.
"""

from __future__ import annotations

import atexit
import errno
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

#: Maximum number of lines that wait for a reader, and the maximum of their bytes for each of them.
_LOG_LINES = 2000
#: For the output of runs: twice the lines of one batch from a journal that consists of the shortest lines.
_OUTPUT_LINES = 100_000
_BYTES_A_LINE = 256
#: Largest piece of one write. One that is not larger does not block on a pipe that poll(2) calls writable (pipe(7)).
_PIECE_BYTES = select.PIPE_BUF
#: Longest wait for a reader before the waiting thread looks whether it is to end, seconds.
_LOOK_S = 0.5
#: How long lines are collected before they are written, seconds: waking the thread costs more than a line does.
_COLLECT_S = 0.02
#: How long after the last line the thread still looks for more by itself, seconds.
_ATTENTIVE_S = 0.2
#: Pause after a write that failed, seconds.
_RETRY_S = 0.5
#: After this time without progress, seconds, nobody waits for room any more.
_STUCK_S = 1.0
#: How long the end of the program waits for the last lines, seconds.
LAST_LINES_S = 1.0
#: Reasons in plain words, for errors that a reader of the log is most likely to see.
_REASONS = {errno.EPIPE: "nobody read them any more", errno.ENOSPC: "the disk was full", errno.EBADF: "it was closed"}
_UNREAD = "nobody read them"


class Sink(Protocol):
    """Takes bytes of whole lines."""

    def write(self, data: bytes) -> int:
        """Write the beginning of `data` and return its length; 0 if nothing could be written yet. Raises OSError."""
        ...


class DescriptorSink:
    """A descriptor that is already open, such as 2. Not made non-blocking: other programs may share it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes) -> int:
        """Write one piece if the descriptor takes it within a moment."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        events = poll.poll(_LOOK_S * 1000)
        if not events:
            return 0
        if events[0][1] & select.POLLNVAL:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        try:
            return os.write(self._fd, _whole_lines(data))
        except BlockingIOError:
            return 0


def _whole_lines(data: bytes) -> bytes:
    """Return as many whole lines as fit into one piece, so that other writers of the descriptor split none."""
    piece = data[:_PIECE_BYTES]
    return piece[: piece.rfind(b"\n") + 1] or piece


class LineWriter:
    """Writes lines to a sink. `what` names one line and several lines in the notice about lost ones."""

    def __init__(self, sink: Sink, what: tuple[str, str], max_lines: int = _LOG_LINES) -> None:
        self._sink = sink
        self._max_lines = max_lines
        self._max_bytes = max_lines * _BYTES_A_LINE
        self._what = what
        #: Makes a line of the notice about lost lines.
        self.format_notice: Callable[[str], str] = "{}\n".format
        self._begin()
        atexit.register(self.flush)
        # A fork has no thread, and what was in the queue is its parent's to write.
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._lost = 0
        self._reason = _UNREAD
        #: When something was last written, or the queue was last empty (monotonic).
        self._progress_s = time.monotonic()
        self._thread: threading.Thread | None = None
        #: Whether the thread waits for lines.
        self._is_waiting = False
        #: Set while somebody waits for the last lines: nothing more is collected then.
        self._is_urgent = threading.Event()

    def write(self, text: str, encoding: str = "utf-8") -> None:
        """Queue whole lines. Never waits; drops them if the queue is full."""
        data = text.encode(encoding, "backslashreplace")
        with self._changed:
            if not self._has_room(len(data)):
                self._lost += text.count("\n")
                return
            if self._lost:
                self._put(self._notice())
            self._put(data)
            self._start()
            self._wake()

    def lose(self, count: int) -> None:
        """Count lines as lost that were not even queued."""
        with self._changed:
            self._lost += count
            self._start()
            self._wake()

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until half of the queue is free. Returns False after `timeout_s`, or at once if the reader is stuck."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_half_empty() or self._is_stuck(), timeout_s) and (
                self._is_half_empty()
            )

    def flush(self, timeout_s: float = LAST_LINES_S) -> bool:
        """Wait until everything is written. Returns False after `timeout_s`, or at once if the reader is stuck."""
        deadline_s = time.monotonic() + timeout_s
        self._is_urgent.set()
        try:
            with self._changed:
                while self._queue or self._lost:
                    left_s = deadline_s - time.monotonic()
                    if left_s <= 0 or self._is_stuck():
                        return False
                    self._changed.wait(min(left_s, _LOOK_S))
        finally:
            self._is_urgent.clear()
        return True

    # -- inside; with the lock held

    def _has_room(self, size: int) -> bool:
        if not self._queue:  # a line of any length is taken then
            return True
        return len(self._queue) < self._max_lines and self._queued_bytes + size <= self._max_bytes

    def _is_half_empty(self) -> bool:
        return len(self._queue) <= self._max_lines // 2 and self._queued_bytes <= self._max_bytes // 2

    def _is_stuck(self) -> bool:
        return bool(self._queue) and time.monotonic() - self._progress_s > _STUCK_S

    def _put(self, data: bytes) -> None:
        if not self._queue:
            self._progress_s = time.monotonic()
        self._queue.append(data)
        self._queued_bytes += len(data)

    def _notice(self) -> bytes:
        lines = f"1 {self._what[0]} was" if self._lost == 1 else f"{self._lost} {self._what[1]} were"
        text = f"{lines} lost because {self._reason}"
        self._lost, self._reason = 0, _UNREAD
        return self.format_notice(text).encode("utf-8", "backslashreplace")

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._loop, name="lines", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no thread can be started now; the next line tries again
                return
            self._thread = thread

    def _wake(self) -> None:
        """Wake the thread if it waits; otherwise it looks at the queue in a moment."""
        if self._is_waiting:
            self._is_waiting = False
            self._changed.notify_all()

    # -- the thread

    def _loop(self) -> None:
        while True:
            self._wait_for_lines()
            self._write_once(self._next_lines())

    def _wait_for_lines(self) -> None:
        """Wait until there is something to write. For a moment after the last line nobody needs to wake this thread."""
        until_s = time.monotonic() + _ATTENTIVE_S
        while not (self._queue or self._lost):
            if time.monotonic() < until_s and not self._is_urgent.wait(_COLLECT_S):
                continue
            with self._changed:
                self._is_waiting = not (self._queue or self._lost)
                if self._is_waiting:
                    self._changed.wait()
            self._is_urgent.wait(_COLLECT_S)

    def _next_lines(self) -> bytes:
        """Return some of the lines, which stay in the queue until they are written."""
        with self._changed:
            if not self._queue:
                self._put(self._notice())
            size = 0
            lines: list[bytes] = []
            for line in self._queue:
                if size + len(line) > _PIECE_BYTES and lines:
                    break
                lines.append(line)
                size += len(line)
        return b"".join(lines)

    def _write_once(self, data: bytes) -> None:
        try:
            written = self._sink.write(data)
        except (OSError, ValueError) as error:
            with self._changed:
                self._reason = _reason_of(error)
            time.sleep(_RETRY_S)
            return
        if written:
            with self._changed:
                self._take_off(written)
                self._progress_s = time.monotonic()
                if not self._lost:
                    self._reason = _UNREAD
                self._changed.notify_all()

    def _take_off(self, size: int) -> None:
        """Remove the first `size` bytes from the queue; the rest of a line that was cut stays the first."""
        self._queued_bytes -= size
        while size:
            first = self._queue.popleft()
            if size < len(first):
                self._queue.appendleft(first[size:])
                return
            size -= len(first)


def _reason_of(error: Exception) -> str:
    number = getattr(error, "errno", None)
    return _REASONS.get(number, str(error)) if number is not None else str(error)


class StandardStream:
    """A standard stream of this process, written through a `LineWriter`.

    If the program has replaced the stream (sys.stdout, sys.stderr) by an object of its own, that is written directly.
    """

    def __init__(self, name: str, fd: int, what: tuple[str, str], max_lines: int) -> None:
        self._name = name
        self._writer = LineWriter(DescriptorSink(fd), what, max_lines)

    def write_lines(self, text: str) -> None:
        """Write whole lines."""
        stream = getattr(sys, self._name)
        if stream is getattr(sys, f"__{self._name}__"):
            self._writer.write(text, stream.encoding)
        else:
            stream.write(text)

    def note_in(self, format_notice: Callable[[str], str]) -> None:
        """Use this format for the notice about lost lines."""
        self._writer.format_notice = format_notice

    def lose(self, count: int) -> None:
        """Count lines as lost that were not written."""
        self._writer.lose(count)

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until lines can be written without loss; see `LineWriter.wait_for_room`."""
        return self._writer.wait_for_room(timeout_s)

    def flush(self) -> None:
        """Wait a moment for the last lines."""
        self._writer.flush()


STANDARD_OUTPUT = StandardStream("stdout", 1, ("line of output", "lines of output"), _OUTPUT_LINES)
STANDARD_ERROR = StandardStream("stderr", 2, ("log line", "log lines"), _LOG_LINES)

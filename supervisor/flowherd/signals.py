"""Signal handlers of the process, and the object that wakes a waiting loop. No other module installs handlers.

A handler only counts and wakes the loop, which does the rest (signal(7): hardly anything else is safe there).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Signals that ask the agent to stop; each further one makes the stop more urgent (docs/design.md, section 10).
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Waker:
    """Wakes one waiting thread, from any thread or from a signal handler. A wake before the wait is not lost."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """End the current wait, or the next one as soon as it begins."""
        os.eventfd_write(self._fd, 1)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until woken or until `timeout_s` has passed (None: no limit). Return whether it was woken."""
        poll = select.poll()  # select(2) cannot watch descriptors above 1023
        poll.register(self._fd, select.POLLIN)
        ready = poll.poll(None if timeout_s is None else max(0, round(timeout_s * 1000)))
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return bool(ready)

    def fileno(self) -> int:
        """Return the descriptor for a selector; after it is ready, `wait(0)` consumes the wake."""
        return self._fd

    def __del__(self) -> None:
        # There is no close method: a late wake from another thread could then write to a new file with the same number.
        os.close(self._fd)


class StopSignals:
    """Counts the stop signals that the process received, and remembers the last one."""

    def __init__(self, waker: Waker) -> None:
        self.count = 0
        self.last: signal.Signals | None = None
        self._waker = waker

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle one signal."""
        self.count += 1
        self.last = signal.Signals(number)
        self._waker.wake()


@contextlib.contextmanager
def catching_stop_signals(waker: Waker) -> Iterator[StopSignals]:
    """Count stop signals and wake `waker` for each; restore the previous handlers at the end of the block.

    Catches nothing outside the main thread, because Python cannot install handlers there.
    """
    caught = StopSignals(waker)
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    # Signals that the parent ignores (nohup, a script's background job) stay ignored, except SIGTERM.
    wanted = [n for n in STOP_SIGNALS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, caught.handle) for number in wanted}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ignore SIGINT during the block, also in programs that are started in it and do not set it again."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""The one module that installs signal handlers, and the one object that wakes a waiting loop.

A handler only writes a byte and counts; the loop does the rest (signal(7): hardly anything else is safe there).
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: Signals that ask the agent to stop; each further one moves a step further (docs/design.md, section 10).
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Waker:
    """Wakes one waiting thread, from any thread or from a signal handler; a wake before the wait is not lost."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def wake(self) -> None:
        """End the wait that is under way, or the next one at once."""
        os.eventfd_write(self._fd, 1)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until woken or for `timeout_s`; whether it was woken."""
        poll = select.poll()  # select(2) cannot watch descriptors above 1023
        poll.register(self._fd, select.POLLIN)
        ready = poll.poll(None if timeout_s is None else max(0, round(timeout_s * 1000)))
        if ready:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._fd)
        return bool(ready)

    def fileno(self) -> int:
        """For a selector; `wait(0)` then takes the wake."""
        return self._fd

    def __del__(self) -> None:
        # Not earlier, by a method: another thread's late wake would write into whatever has the number by then.
        os.close(self._fd)


class StopSignals:
    """How often the process was asked to stop, and by which signal last."""

    def __init__(self, waker: Waker) -> None:
        self.count = 0
        self.last: signal.Signals | None = None
        self._waker = waker

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """The handler itself."""
        self.count += 1
        self.last = signal.Signals(number)
        self._waker.wake()


@contextlib.contextmanager
def catching_stop_signals(waker: Waker) -> Iterator[StopSignals]:
    """Count the signals that ask to stop and wake `waker`; afterwards the handlers that were there are back.

    Outside the main thread, where Python installs no handlers, nothing is caught.
    """
    caught = StopSignals(waker)
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    # What the parent chose to ignore (nohup, a script's background job) stays ignored; SIGTERM is always for us.
    wanted = [n for n in STOP_SIGNALS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, caught.handle) for number in wanted}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

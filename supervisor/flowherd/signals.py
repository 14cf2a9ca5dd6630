"""Signal handlers of the process, and the object that wakes a waiting loop. No other module installs handlers.

A handler only counts and wakes a thread, which does the rest (signal(7): hardly anything else is safe there).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

#: Signals that ask the agent to stop; each further one makes the stop more urgent (docs/design.md, section 10).
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Signals that ask a service to do something and go on (docs/reference/signals.md).
REQUEST_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: What a service does for each of REQUEST_SIGNALS.
Actions = Mapping[signal.Signals, Callable[[], None]]
#: How long after a SIGHUP the controlling terminal can still go, seconds: a shell sends it shortly before it ends.
_TERMINAL_GOES_S = 1.0
_LOOK_S = 0.05


def guarded(what: str, action: Callable[[], object]) -> Callable[[], None]:
    """Return an action that logs its errors, as "Cannot {what}", and raises none: its thread is there for the next."""

    @functools.wraps(action)
    def act() -> None:
        try:
            action()
        except Exception as error:
            from loguru import logger

            logger.opt(exception=True).error("Cannot {}: {!r}", what, error)

    return act


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


class _Terminal:
    """The controlling terminal of this process, if it had one when this was made."""

    def __init__(self) -> None:
        self._was_there = _open_terminal() is None

    def is_lost(self) -> bool:
        """Return whether there was a terminal and it has gone: the kernel takes it away before it sends SIGHUP."""
        return self._was_there and _open_terminal() == errno.ENXIO

    def goes(self, within_s: float) -> bool:
        """Wait until the terminal has gone; return False if it has not after `within_s` seconds."""
        until_s = time.monotonic() + within_s
        while not self.is_lost():
            if not self._was_there or time.monotonic() > until_s:
                return False
            time.sleep(_LOOK_S)
        return True


def _open_terminal() -> int | None:
    """Open the controlling terminal and close it again. Return the error number if that fails (tty(4))."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None


class _Held:
    """Request signals that came before the service could act on them."""

    def __init__(self) -> None:
        self.numbers: set[int] = set()
        self.terminal = _Terminal()

    def handle(self, number: int, _frame: FrameType | None) -> None:
        self.numbers.add(number)


@functools.cache
def _held() -> _Held:
    return _Held()


def hold_request_signals() -> None:
    """Keep SIGHUP, SIGUSR1 and SIGUSR2 until the service can act on them, instead of being ended by them.

    For a program that is about to become a service. Signals that the parent ignores stay ignored. Does nothing outside
    the main thread, because Python cannot install handlers there.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in REQUEST_SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _held().handle)
    # All three are blocked only by `block_request_signals`, and single ones by a parent that wants them so.
    if signal.pthread_sigmask(signal.SIG_BLOCK, ()) >= {*REQUEST_SIGNALS}:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, REQUEST_SIGNALS)


def block_request_signals() -> None:
    """Let SIGHUP, SIGUSR1 and SIGUSR2 wait: this process is about to become another program, which takes them up."""
    signal.pthread_sigmask(signal.SIG_BLOCK, REQUEST_SIGNALS)


class _Requests:
    """Carries out the actions of request signals in a thread of its own, so that a busy main loop delays none.

    A signal that comes again before its action has begun has no further effect.
    """

    def __init__(self, actions: Actions, stops: StopSignals) -> None:
        self._actions = actions
        self._stops = stops
        self._terminal = _held().terminal
        self._waker = Waker()
        self._wanted: set[int] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="signals", daemon=True)

    def start(self) -> None:
        """Begin, with the signals that were held back."""
        self._thread.start()
        held, _held().numbers = _held().numbers, set()
        for number in sorted(held):
            self.handle(number, None)

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle one signal. SIGHUP because the terminal has gone is a stop signal."""
        if number == signal.SIGHUP and self._terminal.is_lost():
            self._stops.handle(number, frame)
            return
        self._wanted.add(number)
        self._waker.wake()

    def close(self) -> None:
        """Begin no more actions; one that has begun goes on."""
        self._closed = True
        self._waker.wake()

    def _loop(self) -> None:
        while True:
            self._waker.wait(None)
            while self._wanted and not self._closed:
                number = self._wanted.pop()
                self._actions[signal.Signals(number)]()
                if number == signal.SIGHUP and self._terminal.goes(_TERMINAL_GOES_S):
                    self._stops.handle(number, None)
            if self._closed:
                return


@contextlib.contextmanager
def catching_stop_signals(waker: Waker, actions: Actions | None = None) -> Iterator[StopSignals]:
    """Count stop signals and wake `waker` for each; restore the previous handlers at the end of the block.

    `actions` are what to do for SIGHUP, SIGUSR1 and SIGUSR2, in a thread of their own. With them SIGHUP is a stop
    signal only if the controlling terminal has gone. Catches nothing outside the main thread, because Python cannot
    install handlers there.
    """
    caught = StopSignals(waker)
    if threading.current_thread() is not threading.main_thread():
        yield caught
        return
    requests = _Requests(actions, caught) if actions else None
    # Signals that the parent ignores (nohup, a script's background job) stay ignored, except SIGTERM.
    wanted = [n for n in STOP_SIGNALS if n == signal.SIGTERM or signal.getsignal(n) != signal.SIG_IGN]
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = dict.fromkeys(wanted, caught.handle)
    if requests is not None:
        # A program of which the agent is a part may use SIGUSR1 and SIGUSR2 itself.
        free = [n for n in REQUEST_SIGNALS if n in wanted or signal.getsignal(n) in (signal.SIG_DFL, _held().handle)]
        for number in free:
            handlers[number] = requests.handle
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    if requests is not None:
        requests.start()
    try:
        yield caught
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
        if requests is not None:
            requests.close()


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ignore SIGINT during the block, also in programs that are started in it and do not set it again."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

"""The poll loop: when to look for flow runs, and what a failed look means. Knows no flow run and no process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, wait
from typing import TypeVar

from loguru import logger

from flowherd.agent import health
from flowherd.agent.backoff import PollPace
from flowherd.agent.connection import Connection
from flowherd.agent.suspension import suspended_s
from flowherd.agent.watchdog import Watchdog
from flowherd.agent.worker_threads import WorkerThreads
from flowherd.errors import BackendError, NotAuthorized
from flowherd.recurring_error import RecurringError
from flowherd.signals import Waker

T = TypeVar("T")

#: Shortest pause that `longest_silence_s` can cause, seconds.
_SHORTEST_PAUSE_S = 0.2
#: Number of polls within `longest_silence_s`.
_POLLS_WITHIN_SILENCE = 4
#: Time between two looks whether a poll that takes long is to be abandoned, seconds.
_LOOK_S = 0.1
#: How long a poll that is under way may go on when the agent stops, seconds.
_PATIENCE_S = 1.0


class PollLoop:
    """Calls `poll` again and again, with pauses that grow while it finds nothing.

    `waker` ends a pause early. `longest_silence_s`: after this time without an answer the backend counts as lost, so it
    is polled several times within it; None if it never does.
    """

    def __init__(self, connection: Connection, waker: Waker, longest_silence_s: float | None) -> None:
        self._connection = connection
        self._waker = waker
        self._longest_silence_s = longest_silence_s
        #: What a service manager gets to know.
        self.watchdog = Watchdog(connection)
        self._pace = PollPace()
        self._polling = RecurringError("look for flow runs", logger)
        #: Calls what may wait for long: the thread of `run` must see at any time that it is to stop.
        self._caller: WorkerThreads | None = None
        self._deploying: WorkerThreads | None = None
        #: Number of polls in a row that failed.
        self.failed_polls = 0
        #: When the loop passed its top (monotonic).
        self.last_beat_s = time.monotonic()

    def health(self, request_timeout_s: float) -> health.Health:
        """Return whether the backend answers and the loop runs."""
        facts = health.Facts(
            started_s=self._connection.opened_s,
            last_beat_s=self.last_beat_s,
            last_contact_s=self._connection.last_contact_s,
            longest_pause_s=self._pace.longest_s,
            request_timeout_s=request_timeout_s,
        )
        return health.assess(facts, time.monotonic())

    def use_intervals(self, intervals: Mapping[int, float]) -> None:
        """Replace the pauses between polls."""
        self._pace = PollPace(intervals)

    def poke(self) -> None:
        """Poll now instead of after the pause."""
        self._pace.reset()
        self._waker.wake()

    def beat_while_stopping(self) -> None:
        """Note that the agent, which does not poll any more, is alive."""
        self.last_beat_s = time.monotonic()
        self.watchdog.stopping()

    def run(self, poll: Callable[[Executor], bool], is_stopping: Callable[[], bool], max_polls: int | None) -> None:
        """Poll until `is_stopping`, or `max_polls` times. Raises what `poll` raises.

        Work that polls have given to the executor may go on when this returns because of `is_stopping`; see `is_idle`.
        """
        polls = 0
        executor = self._deploying = WorkerThreads(min(32, (os.cpu_count() or 1) + 4), "deploy")
        try:
            while not is_stopping() and (max_polls is None or polls < max_polls):
                self.last_beat_s = time.monotonic()
                self.watchdog.beat()
                pause_s = self._pace.after_poll(bool(self.call(lambda: poll(executor), is_stopping)))
                polls += 1
                if max_polls is None or polls < max_polls:
                    pause_s = self._checked_pause_s(pause_s)
                    logger.debug("Next look for flow runs in {} s", pause_s)
                    self._rest(0 if is_stopping() else pause_s)
            while not (self.is_idle() or is_stopping()):  # after the last of `max_polls` polls
                self._waker.wait(_LOOK_S)
        finally:
            executor.shutdown(wait=False)
            if self._caller is not None:
                self._caller.shutdown(wait=False)
                self._caller = None
            self._connection.begin_closing()  # or the executor's threads could wait for the end of a pause

    def call(self, work: Callable[[], T], is_stopping: Callable[[], bool]) -> T | None:
        """Do `work` in another thread and return its result; raises what it raises.

        Returns None without waiting for it any longer when the agent is to stop, a moment after that was asked for.
        """
        if self._caller is None:
            self._caller = WorkerThreads(1, "poll")
        future: Future[T] = self._caller.submit(work)
        abandon_at_s: float | None = None
        while not wait([future], _LOOK_S).done:
            if abandon_at_s is None and is_stopping():
                abandon_at_s = time.monotonic() + _PATIENCE_S
            if abandon_at_s is not None and time.monotonic() > abandon_at_s:
                logger.debug("Not waiting any longer for a request that is under way")
                return None
        return future.result()

    @property
    def executor(self) -> WorkerThreads | None:
        """Where flow runs are deployed; None before the first poll."""
        return self._deploying

    def is_idle(self) -> bool:
        """Return whether no flow run is being deployed."""
        return self._deploying is None or self._deploying.is_idle()

    def guard(self, look: Callable[[], bool]) -> bool:
        """Look for flow runs once and return whether any were found.

        A failed look is logged and the loop goes on; NotAuthorized is raised, whichever request met it. Nothing is sent
        while the backend has asked for a pause.
        """
        found = False
        try:
            if self._connection.refused is not None:
                raise self._connection.refused
            if self._connection.pause_s() > 0:
                return False
            found = look()
            self.failed_polls = 0
        except NotAuthorized:
            raise
        except BackendError as error:
            self.failed_polls += 1
            level = "WARNING" if self.failed_polls == 1 else "DEBUG"
            logger.log(level, "Poll failed ({} in a row), trying again: {}", self.failed_polls, error)
        except Exception as error:  # one poll must not end the loop
            self.failed_polls += 1
            self._polling.failed(error)
            logger.opt(exception=True).debug("Polling failed")
        else:
            self._polling.recovered()
        return found

    def _checked_pause_s(self, pause_s: float) -> float:
        pause_s = max(pause_s, self._connection.pause_s())
        if self._longest_silence_s is None:
            return pause_s
        return min(pause_s, max(_SHORTEST_PAUSE_S, self._longest_silence_s / _POLLS_WITHIN_SILENCE))

    def _rest(self, pause_s: float) -> None:
        """Wait, and log when the wait shows that this process did not run meanwhile."""
        before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        end_s = time.monotonic() + pause_s
        step_s = self.watchdog.step_s or pause_s
        while not self._waker.wait(min(step_s, max(0.0, end_s - time.monotonic()))) and time.monotonic() < end_s:
            self.watchdog.beat()
        missing_s = suspended_s(pause_s, time.clock_gettime(time.CLOCK_BOOTTIME) - before_s)
        if missing_s is not None:
            logger.warning(
                "The agent was suspended for {:.0f} s: stopped by a signal, or the host slept or was overloaded",
                missing_s,
            )

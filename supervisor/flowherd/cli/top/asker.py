"""Asks the source in a thread of its own: every few seconds how things are, and between that what a person wants."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from flowherd.errors import FlowherdError

#: Something to do, what becomes of its result, and what becomes of an error.
_Job = tuple[Callable[[], Any], Callable[[Any], None], Callable[[FlowherdError], None]]


class Asker:
    """One thread, in which everything is asked one after the other.

    `deliver` brings a call to the thread that draws; it may raise RuntimeError once that has ended.
    """

    def __init__(
        self,
        look: Callable[[], Any],
        interval_s: float,
        deliver: Callable[[Callable[[], None]], None],
        seen: Callable[[Any], None],
        failed: Callable[[FlowherdError], None],
    ) -> None:
        self._look: _Job = (look, seen, failed)
        self._interval_s = interval_s
        self._deliver = deliver
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="asker", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def ask(self, job: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[FlowherdError], None]) -> None:
        """Have `job` done; `then` is given its result, `failed` its error."""
        self._jobs.put((job, then, failed))

    def look_now(self) -> None:
        """Look without waiting for the next time."""
        self._jobs.put(self._look)

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._jobs.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for its end."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        job: _Job | None = self._look
        next_s = time.monotonic()
        while job is not None:
            if job is self._look:
                next_s = time.monotonic() + self._interval_s
            self._carry_out(*job)
            try:
                job = self._jobs.get(timeout=max(0.0, next_s - time.monotonic()))
            except queue.Empty:
                job = self._look

    def _carry_out(
        self, job: Callable[[], Any], then: Callable[[Any], None], failed: Callable[[FlowherdError], None]
    ) -> None:
        try:
            result = job()
        except FlowherdError as error:
            found = error
            self._bring(lambda: failed(found))
        except Exception as error:  # otherwise the picture would stand still without a word
            unexpected = FlowherdError(f"unexpected error: {error!r}")
            self._bring(lambda: failed(unexpected))
        else:
            self._bring(lambda: then(result))

    def _bring(self, call: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the program ends
            self._deliver(call)

"""Logs a recurring failure once when it starts, when its kind changes, and when it ends; not at each try."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loguru import Logger


class RecurringError:
    """Failures of one piece of work that is tried again and again; `what` completes "Cannot ...".

    Usable from several threads.
    """

    def __init__(self, what: str, log: Logger) -> None:
        self._what = what
        self._log = log
        self._lock = threading.Lock()
        self._kind: tuple[object, ...] | None = None
        self._since_s = 0.0
        self._times = 0

    def failed(self, error: BaseException) -> None:
        """Note that a try failed. A failure of the same kind as the last one is logged for debugging only."""
        kind = (type(error), getattr(error, "errno", None))
        with self._lock:
            is_new = kind != self._kind
            if self._kind is None:
                self._since_s, self._times = time.monotonic(), 0
            self._kind = kind
            self._times += 1
        level = "WARNING" if is_new else "DEBUG"
        self._log.log(level, "Cannot {} now, trying again: {}: {}", self._what, type(error).__name__, error)

    def recovered(self) -> None:
        """Note that a try succeeded. Logged once if earlier tries had failed."""
        with self._lock:
            if self._kind is None:
                return
            self._kind = None
            lasted_s, times = time.monotonic() - self._since_s, self._times
        self._log.info("Can {} again, after {:.0f} s and {} failed tries", self._what, lasted_s, times)

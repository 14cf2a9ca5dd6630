"""The start of one fork server: which module it is importing, who waits for it, and how it went.

An import may take for ever (a download, a lock on NFS), so what is being waited for can be seen at any time, and every
wait can be ended.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from flowherd.errors import AgentStopping


class Preloading:
    """Everything between the start of a fork server's process and its ready message. Usable from several threads."""

    def __init__(self, interpreter: str) -> None:
        self._interpreter = interpreter
        self._ready: Future[Mapping[str, Any]] = Future()
        self._since_s = time.monotonic()
        #: The module that is being imported; empty before the first one.
        self._module = ""
        self._lock = threading.Lock()
        #: Number of waiting threads by flow run id.
        self._waiting: Counter[str] = Counter()

    # -- what the fork server reports

    def note_import(self, module: str) -> None:
        """Note that an import begins."""
        self._module, self._since_s = module, time.monotonic()

    def finish(self, ready: Mapping[str, Any]) -> None:
        """Note the ready message."""
        with suppress(InvalidStateError):  # nobody waits any more
            self._ready.set_result(ready)

    def fail(self, error: Exception) -> None:
        """End all waits with `error`, unless the fork server is ready."""
        with suppress(InvalidStateError):
            self._ready.set_exception(error)

    def give_up(self) -> None:
        """End all waits, because the agent is stopping."""
        self.fail(AgentStopping(f"the agent was stopped; {self._describe()}"))

    # -- what others want to know

    @property
    def is_over(self) -> bool:
        """Whether the fork server is ready, has failed, or nobody waits for it any more."""
        return self._ready.done()

    @property
    def succeeded(self) -> bool:
        """Whether all modules were imported."""
        return self._ready.done() and self._ready.exception() is None

    def wait(self, timeout_s: float, flow_run_id: str = "") -> Mapping[str, Any]:
        """Wait for the ready message. Raises TimeoutError, AgentStopping, and what `fail` was called with."""
        with self._lock:
            self._waiting[flow_run_id] += 1
        try:
            return self._ready.result(timeout_s)
        except FutureTimeout as error:
            raise TimeoutError(self._describe()) from error
        finally:
            with self._lock:
                self._waiting[flow_run_id] -= 1

    def figures(self) -> dict[str, Any] | None:
        """Return what is being waited for, for the agent's API; None when it is over."""
        if self.is_over:
            return None
        with self._lock:
            waiting = sorted(run_id for run_id, count in self._waiting.items() if count and run_id)
        return {
            "interpreter": self._interpreter,
            "module": self._module or None,
            "seconds": round(self._seconds(), 1),
            "runs": waiting,
        }

    def _describe(self) -> str:
        module = self._module or "its first module"
        return f"{self._interpreter} had been importing {module} for {self._seconds():.0f} s"

    def _seconds(self) -> float:
        return time.monotonic() - self._since_s

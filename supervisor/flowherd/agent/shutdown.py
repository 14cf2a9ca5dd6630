"""How an agent stops: what it was asked to do with its runs, and the waits that further stop signals cut short.

docs/design.md, section 10. What leaving, draining and ending mean for runs is the platform's work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flowherd.config.settings import OnStop
from flowherd.signals import StopSignals, Waker

_STEP_S = 0.2
#: How long an agent that stops waits for requests that are under way and for the last deliveries together, seconds.
FLUSH_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ShutdownRequest:
    """How the agent is to stop."""

    #: What to do with the runs; None means what the agent does at every stop.
    on_stop: OnStop | None = None
    #: For "drain": how long the runs may go on, seconds; None means the setting's value.
    deadline_s: float | None = None
    #: Whether to start again in the same process afterwards.
    start_again: bool = False

    @property
    def word(self) -> str:
        """One word for what the agent is doing."""
        return "restarting" if self.start_again else "draining" if self.on_stop == "drain" else "stopping"


class ShutdownWait:
    """Waits of an agent that is stopping. Each stop signal ends one wait for runs, also one that came before the wait.

    `waker` ends a step of waiting early; `beat` is called at every step, so that a watchdog sees the agent alive.
    """

    def __init__(self, signals: StopSignals, waker: Waker, beat: Callable[[], None]) -> None:
        self._signals = signals
        self._waker = waker
        self._beat = beat
        #: Signals that have had their effect; the first one began the shutdown.
        self._used_signals = min(signals.count, 1)
        self._flush_left_s = FLUSH_TIMEOUT_S

    def until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition. Returns False when `timeout_s` is over or a further signal ends the wait."""
        done = self._wait(condition, timeout_s)
        if not done and self._is_urged:
            self._used_signals += 1
        return done

    def flush(self, condition: Callable[[], bool]) -> bool:
        """Wait for requests that are under way, as `until` does; all calls together at most FLUSH_TIMEOUT_S.

        A signal that ends this wait counts for the next wait for runs too: it was meant for them.
        """
        begun_s = time.monotonic()
        done = self._wait(condition, self._flush_left_s)
        self._flush_left_s = max(0.0, self._flush_left_s - (time.monotonic() - begun_s))
        return done

    @property
    def _is_urged(self) -> bool:
        return self._signals.count > self._used_signals

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if self._is_urged or time.monotonic() > deadline_s:
                return False
            self._beat()
            self._waker.wait(_STEP_S)
        return True

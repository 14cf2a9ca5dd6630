"""What becomes of the runs when their agent stops: left, waited for, or ended (docs/design.md, section 10).

Each stop signal ends one wait, also one that came before the wait began, and so moves one step further.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from loguru import logger

from flowherd.agent.control import Departure
from flowherd.host.run_registry import RunRegistry
from flowherd.signals import StopSignals, Waker
from flowherd_runner.contract import reasons

#: The last words of the runs get so long when the agent stops.
FLUSH_TIMEOUT_S = 5.0
_STEP_S = 0.2


class WindingDown:
    """One agent's way out.

    `waker` ends a step of waiting early, `beat` is called at every step: the agent is alive. `instance` tells this
    life of the agent from others in the runs' logs.
    """

    def __init__(
        self, registry: RunRegistry, signals: StopSignals, waker: Waker, beat: Callable[[], None], instance: str
    ) -> None:
        self._registry = registry
        self._signals = signals
        self._waker = waker
        self._beat = beat
        self._instance = instance
        #: The signals that have done what they are for; the first has brought us here.
        self._used_signals = min(signals.count, 1)

    def carry_out(self, departure: Departure, usual_deadline_s: float) -> None:
        """Leave, drain or end the runs, as `departure` says."""
        step = departure.on_stop
        detail = "The agent was stopped and ended its flow runs."
        if step == "drain":
            deadline_s = usual_deadline_s if departure.deadline_s is None else departure.deadline_s
            step = "detach" if self._drain(deadline_s) else "cancel"
            detail = "The agent was drained: the flow run had not ended at the deadline."
        if step == "cancel":
            self._end_all(detail)

    def wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for a condition; False when the time is over or a further signal says to go on."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            if self._signals.count > self._used_signals:
                self._used_signals += 1
                return False
            if time.monotonic() > deadline_s:
                return False
            self._beat()
            self._waker.wait(_STEP_S)
        return True

    def _drain(self, deadline_s: float) -> bool:
        until = datetime.now(timezone.utc) + timedelta(seconds=deadline_s)
        words = f"The agent is draining; this run may go on until {until:%Y-%m-%d %H:%M:%S} UTC and is ended then."
        living = self._registry.living()
        for run in living:
            run.note(words, logging.WARNING, f"drain-{self._instance}")
        logger.info("Draining: waiting for {} flow run(s) until {:%Y-%m-%d %H:%M:%S} UTC", len(living), until)
        return self.wait(lambda: not self._registry.living(), deadline_s)

    def _end_all(self, detail: str) -> None:
        living = self._registry.living()
        for run in living:
            run.ask_to_stop(reasons.REASON_AGENT_STOP, detail)
        longest_s = max((run.grace_s for run in living), default=0.0) + 2 * FLUSH_TIMEOUT_S
        if not self.wait(lambda: not self._registry.living(), longest_s):
            logger.warning("Not waiting longer for {} flow run(s) to end", len(self._registry.living()))

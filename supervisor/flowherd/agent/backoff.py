"""How long to wait before the next try: of a poll that found nothing, and of a call that got no answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Seconds to the next poll after so many polls that found nothing; the published steps of the Prefect 0.13 agent.
LOOP_INTERVALS: Mapping[int, float] = {0: 0.25, 1: 0.5, 2: 1.0, 3: 2.0, 4: 4.0, 5: 8.0, 6: 10.0}


@dataclass
class PollPace:
    """The pause between polls: grows while nothing is found, starts again at any find or poke."""

    intervals: Mapping[int, float] = field(default_factory=lambda: LOOP_INTERVALS)
    _index: int = 0

    @property
    def longest_s(self) -> float:
        """The longest pause."""
        return max(self.intervals.values())

    def after_poll(self, found: bool) -> float:
        """Seconds to wait after a poll that did or did not find something."""
        if found:
            self._index = 0
        elif self._index < max(self.intervals):
            self._index += 1
        return self.intervals[self._index]

    def reset(self) -> None:
        """Start again at the shortest pause."""
        self._index = 0


def retry_pause_s(failures: int, jitter: float, wish_s: float | None = None, cap_s: float = 30.0) -> float:
    """Seconds to wait after `failures` (>= 1) calls in a row without an answer.

    Doubles from a quarter second up to `cap_s`; `jitter` in [0, 1) spreads it over the upper half, so that many
    agents do not come back in step. The backend's own wish (Retry-After) is a lower bound.
    """
    full = min(cap_s, 0.25 * 2.0 ** min(failures - 1, 16))
    return max(full * (0.5 + 0.5 * jitter), wish_s or 0.0)

"""How long to wait before the next try: after a poll that found nothing, and after a request without an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Seconds until the next poll, by the number of polls in a row that found nothing; the steps of the published contract.
LOOP_INTERVALS: Mapping[int, float] = {0: 0.25, 1: 0.5, 2: 1.0, 3: 2.0, 4: 4.0, 5: 8.0, 6: 10.0}


@dataclass
class PollPace:
    """The pause between polls: grows while nothing is found, and starts again at a find or a poke."""

    intervals: Mapping[int, float] = field(default_factory=lambda: LOOP_INTERVALS)
    _index: int = 0

    @property
    def longest_s(self) -> float:
        """The longest pause, seconds."""
        return max(self.intervals.values())

    def after_poll(self, found: bool) -> float:
        """Return the seconds to wait after a poll that did or did not find something."""
        if found:
            self._index = 0
        elif self._index < max(self.intervals):
            self._index += 1
        return self.intervals[self._index]

    def reset(self) -> None:
        """Start again at the shortest pause."""
        self._index = 0


def retry_pause_s(failures: int, jitter: float, cap_s: float = 30.0) -> float:
    """Return the seconds to wait after `failures` (>= 1) requests in a row without an answer.

    Doubles from a quarter second up to `cap_s`. `jitter` in [0, 1) spreads it over the upper half, so that many agents
    do not come back at the same moment. A pause that the backend asked for (Retry-After) is the connection's matter.
    """
    full = min(cap_s, 0.25 * 2.0 ** min(failures - 1, 16))
    return full * (0.5 + 0.5 * jitter)

"""How often a channel is used, and when a failed delivery is tried again. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Pauses before a notification is tried again, seconds: the first, and the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 600.0
#: Longest pause of a channel whose last delivery failed, seconds: the next notification is tried then.
LONGEST_CHANNEL_PAUSE_S = 60.0
#: How long a notification is tried, seconds.
GIVE_UP_AFTER_S = 24 * 3600.0


def pause_s(failures: int, longest_s: float = LONGEST_PAUSE_S) -> float:
    """Return the pause after so many failures in a row, seconds."""
    return min(longest_s, FIRST_PAUSE_S * 2.0 ** min(max(failures - 1, 0), 20))


@dataclass(frozen=True)
class Rate:
    """At most `burst` messages at once, and then one every `pause_s` seconds."""

    burst: int
    pause_s: float

    def left(self, sent: Sequence[float], now: float) -> float:
        """Return how many messages may be sent now, after those at the times `sent`, oldest first.

        Less than 1 means none yet.
        """
        if self.pause_s <= 0:
            return float(self.burst)
        left, last = float(self.burst), None
        for at in (*sent, now):
            if last is not None:
                left = min(float(self.burst), left + max(0.0, at - last) / self.pause_s)
            last = at
            left -= 1
        return left + 1

    def wait_s(self, sent: Sequence[float], now: float) -> float:
        """Return how long to wait until one message may be sent, seconds; 0 if that is now."""
        return max(0.0, (1.0 - self.left(sent, now)) * self.pause_s)

    @property
    def window_s(self) -> float:
        """How far back messages matter, seconds."""
        return self.burst * self.pause_s

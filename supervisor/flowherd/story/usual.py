"""How long the runs of a flow usually take."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

#: Number of the newest good runs that count, and how many there must be.
LOOKED_AT, NEEDED = 30, 5


def usual_s(durations_s: Sequence[float]) -> float | None:
    """Return the median of the newest good runs' durations, the newest first; None if there are too few."""
    newest = durations_s[:LOOKED_AT]
    return median(newest) if len(newest) >= NEEDED else None

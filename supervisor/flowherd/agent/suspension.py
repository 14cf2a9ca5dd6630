"""Decides whether this process was suspended during a wait."""

from __future__ import annotations

#: Longest delay, seconds, that a busy host can be expected to cause.
_TOLERANCE_S = 3.0


def suspended_s(planned_s: float, took_s: float) -> float | None:
    """Return the seconds that are missing after a wait of at most `planned_s` that took `took_s`; None if none are.

    Both by a clock that goes on while the host sleeps (CLOCK_BOOTTIME, clock_gettime(2)).
    """
    missing_s = took_s - planned_s
    return missing_s if missing_s > _TOLERANCE_S else None

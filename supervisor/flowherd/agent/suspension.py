"""Whether a wait took so much longer than it was meant to that this process cannot have run meanwhile."""

from __future__ import annotations

#: A busy host wakes a process later than it asked for, but hardly by more.
_TOLERANCE_S = 3.0


def suspended_s(planned_s: float, took_s: float) -> float | None:
    """Seconds that are missing after a wait of at most `planned_s` that took `took_s`; None when none are.

    Both by a clock that goes on while the host sleeps (CLOCK_BOOTTIME, clock_gettime(2)).
    """
    missing_s = took_s - planned_s
    return missing_s if missing_s > _TOLERANCE_S else None

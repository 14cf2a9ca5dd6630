"""Why a run is asked to end, and when it is ended by force."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    """Why a run must end, and the time (monotonic) at which the agent kills it if it has not ended."""

    reason: str
    detail: str
    kill_at_s: float

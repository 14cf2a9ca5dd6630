"""Decides whether the agent is well, from stored facts and the time."""

from __future__ import annotations

from dataclasses import dataclass

#: Number of longest poll intervals without an answer from the backend after which the agent is not well.
_MISSED_POLLS = 4


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known; times are seconds of the monotonic clock."""

    started_s: float
    #: When the poll loop last passed its top.
    last_beat_s: float
    #: When the backend last answered; None before it ever did.
    last_contact_s: float | None
    longest_pause_s: float
    request_timeout_s: float


@dataclass(frozen=True, kw_only=True)
class ClaimPause:
    """Why a well agent claims nothing: one word for programs, one sentence for people."""

    word: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """Whether the agent is well. `reason` says what is wrong, or is empty."""

    well: bool
    reason: str = ""
    #: Set while nothing is claimed; that alone does not make the agent unwell.
    claim_pause: ClaimPause | None = None


def assess(facts: Facts, now_s: float) -> Health:
    """Return well, unless the loop is stuck or the backend has not answered for several poll intervals."""
    silent_s = now_s - (facts.started_s if facts.last_contact_s is None else facts.last_contact_s)
    if silent_s > _MISSED_POLLS * facts.longest_pause_s + facts.request_timeout_s:
        return Health(well=False, reason=f"the backend has not answered for {silent_s:.0f} s")
    stuck_s = now_s - facts.last_beat_s
    # A poll is a handful of requests, each of which may take its whole time-out.
    if stuck_s > facts.longest_pause_s + _MISSED_POLLS * facts.request_timeout_s:
        return Health(well=False, reason=f"the poll loop has been stuck for {stuck_s:.0f} s")
    return Health(well=True)

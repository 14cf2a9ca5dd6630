"""Whether a running run is stuck: a reading of its figures, never a state."""

from __future__ import annotations

from datetime import datetime

from flowherd.shown_times import spoken_span
from flowherd.states import RunState
from flowherd.story.live import RunFigures

#: A run is stuck when it has been quiet for this time, seconds, and for this many times as long as it usually takes.
QUIET_S, QUIET_TIMES = 600.0, 3.0
#: Time after the grace time in which a run that was asked to end has to have ended, seconds.
ENDING_MARGIN_S = 10.0
#: Grace time of a run whose agent does not report one, seconds: the default of runs.grace_period.
_USUAL_GRACE_S = 10.0


def may_be_stuck(state: str, figures: RunFigures | None) -> bool:
    """Return whether a run may be stuck, whatever its flow's runs usually take: if not, nobody needs to know that."""
    if state == RunState.RUNNING:
        return _quiet_s(figures) >= QUIET_S
    return state == RunState.CANCELLING


def stuck_reason(
    state: str, state_since: datetime | None, figures: RunFigures | None, usual_s: float | None, now: datetime
) -> str:
    """Return why a run counts as stuck, in words; empty if it does not.

    A Running run is stuck when it has written no line and used less than 1 % of a processor for ten minutes or three
    times the usual duration of its flow's runs, whichever is longer. One that is Cancelling is stuck ten seconds after
    its grace time. `state_since` is when it got its state, `usual_s` is None if nothing is usual.
    """
    if state == RunState.RUNNING:
        quiet_s = _quiet_s(figures)
        if quiet_s < max(QUIET_S, QUIET_TIMES * (usual_s or 0.0)):
            return ""
        usually = "" if usual_s is None else f"; its flow usually takes {spoken_span(usual_s)}"
        return f"no output and less than 1% CPU for {spoken_span(quiet_s // 60 * 60)}{usually}"
    if state == RunState.CANCELLING and state_since is not None:
        grace_s = _USUAL_GRACE_S if figures is None or figures.grace_s is None else figures.grace_s
        asked_s = (now - state_since).total_seconds()
        if asked_s > grace_s + ENDING_MARGIN_S:
            return f"was to end within {spoken_span(grace_s)}, and has not for {spoken_span(asked_s)}"
    return ""


def _quiet_s(figures: RunFigures | None) -> float:
    if figures is None or figures.quiet_since is None:
        return 0.0
    # By the agent's clock, as far as its report goes: that of another host may differ.
    return max(0.0, figures.at - figures.quiet_since)

"""What to report of a flow run whose engine reports its states itself, once its process has ended.

The engine knows what became of the flow, the agent knows what became of the process. So the agent reports an end only
when the engine has reported nothing final and nothing waits for another start of the run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flowherd.states import CLAIMABLE, FINISHED, RunState
from flowherd.values import RunAtBackend, StateReport

_NOT_REPORTED = "Its engine had not reported how the flow ended."


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The report that the backend gets, None for none, and the state of the run after that."""

    report: StateReport | None
    state: RunState


def outcome(ended: StateReport, standing: RunAtBackend | None) -> Outcome:
    """Conclude from how the process `ended` and what the backend holds; None when it does not know the run any more."""
    if standing is None:
        return Outcome(report=None, state=ended.state)
    if standing.state in FINISHED:
        return Outcome(report=None, state=standing.state)
    waits_in = _waits_in(ended, standing)
    if waits_in is not None:
        return Outcome(report=None, state=waits_in)
    report = _filled_in(ended, standing)
    return Outcome(report=report, state=report.state)


def _waits_in(ended: StateReport, standing: RunAtBackend) -> RunState | None:
    """The state in which the run waits for its next start (long retry, pause, queued again); None if it does not."""
    if standing.state is RunState.SCHEDULED:
        return RunState.SCHEDULED
    if ended.state is not RunState.SUCCESS:  # the process did not leave the run waiting on purpose
        return None
    if standing.state in CLAIMABLE:
        return standing.state
    if standing.state is RunState.RUNNING and standing.waiting:
        return min(standing.waiting)
    return None


def _filled_in(ended: StateReport, standing: RunAtBackend) -> StateReport:
    """The final state that the engine could not report."""
    if standing.state is RunState.CANCELLING and ended.state is not RunState.CANCELLED:
        return replace(ended, state=RunState.CANCELLED, message=f"The flow run was cancelled. {ended.message}")
    if ended.state is RunState.SUCCESS:
        return replace(ended, state=RunState.FAILED, message=f"{ended.message} {_NOT_REPORTED}")
    return ended

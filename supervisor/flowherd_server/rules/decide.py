"""What becomes of runs that are due, by the rules of their flow. Pure: knows no database and no clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from flowherd.flow_rules import NOT_MADE_UP, CatchUp, FlowRules, Overlap
from flowherd_server.store.microseconds import SECOND_US

#: How much later than its time a run of a schedule may start with catch-up "none", microseconds.
IN_TIME_US = 60 * SECOND_US


@dataclass(frozen=True, kw_only=True)
class DueRunOfFlow:
    """A run that is due, or is held back until it has room."""

    id: str
    name: str
    #: When it was meant to start, microseconds since the epoch.
    scheduled_us: int
    #: Since when it is due; None while it is held back.
    due_us: int | None
    rules: FlowRules
    #: What tells the clock of its schedule from the others of the flow; None if no schedule has created it, or if it
    #: has been started before.
    clock: str | None = None

    @property
    def is_held(self) -> bool:
        """Whether it is held back."""
        return self.due_us is None


@dataclass(frozen=True, kw_only=True)
class RunUnderWay:
    """A run of the same flow that has been claimed and has not ended, or waits for its next attempt."""

    id: str
    name: str
    #: Whether it is about to end because that was asked for.
    is_ending: bool = False


class Verb(Enum):
    """What to do with a run."""

    SKIP = "skip"
    #: Hold it back until there is room for it.
    HOLD = "hold"
    #: Let it be claimed now.
    RELEASE = "release"
    #: End it.
    CANCEL = "cancel"


@dataclass(frozen=True)
class Decision:
    """What to do with one run, and why, as a sentence for people."""

    verb: Verb
    run_id: str
    why: str


def decide(due: Sequence[DueRunOfFlow], under_way: Sequence[RunUnderWay], now_us: int) -> list[Decision]:
    """Decide about the runs of one flow that are due. `under_way` has the oldest first."""
    decisions, left = [], list[DueRunOfFlow]()
    for run in due:
        why = missed(run, due, now_us)
        if why is None:
            left.append(run)
        else:
            decisions.append(Decision(Verb.SKIP, run.id, why))
    ordered = sorted(left, key=lambda run: (not run.is_held, run.scheduled_us))
    # A run that may be claimed is about to take its place, so nothing is released in its stead.
    taken = len(under_way)
    full = list[DueRunOfFlow]()
    for run in ordered:
        limit = run.rules.limit
        if limit is None or taken < limit:
            taken += 1
            if run.is_held:
                decisions.append(Decision(Verb.RELEASE, run.id, "It has room now."))
        elif len(under_way) >= limit:
            full.append(run)
    return decisions + _without_room(full, under_way)


def missed(run: DueRunOfFlow, due: Sequence[DueRunOfFlow], now_us: int) -> str | None:
    """Return why a run of a schedule is not made up for; None if it may still run."""
    if run.clock is None or run.due_us is None:
        return None
    if run.rules.catch_up is CatchUp.NONE and now_us - run.due_us >= IN_TIME_US:
        return f"No agent started it within a minute of its time {NOT_MADE_UP}none)."
    later = (each for each in due if each.clock == run.clock and each.scheduled_us > run.scheduled_us)
    if run.rules.catch_up is CatchUp.LAST and any(later):
        return f"No agent started it before the next run of its schedule was due {NOT_MADE_UP}last)."
    return None


def _without_room(full: Sequence[DueRunOfFlow], under_way: Sequence[RunUnderWay]) -> list[Decision]:
    decisions = list[Decision]()
    waits = any(run.is_held for run in full)
    newest = full[-1] if full else None
    for run in full:
        overlap = run.rules.overlap
        if overlap is Overlap.REPLACE and run is not newest:
            decisions.append(
                Decision(Verb.SKIP, run.id, f"{newest and newest.name} takes its place (overlap: replace).")
            )
        elif run.is_held:
            pass
        elif overlap is Overlap.SKIP or (overlap is Overlap.QUEUE and waits):
            decisions.append(Decision(Verb.SKIP, run.id, _why_skipped(run.rules, under_way)))
        else:
            waits = True
            decisions.append(Decision(Verb.HOLD, run.id, _why_held(run.rules, under_way)))
        if overlap is Overlap.REPLACE and run is newest:
            decisions += _replaced(run, under_way)
    return decisions


def _replaced(run: DueRunOfFlow, under_way: Sequence[RunUnderWay]) -> list[Decision]:
    """Return whom the run replaces: the oldest ones, so that it has room once they have ended."""
    limit = run.rules.limit or 1
    living = [each for each in under_way if not each.is_ending]
    why = f"{run.name} takes its place (overlap: replace)."
    return [Decision(Verb.CANCEL, each.id, why) for each in living[: max(0, len(living) - limit + 1)]]


def _why_skipped(rules: FlowRules, under_way: Sequence[RunUnderWay]) -> str:
    waits = ", and another run waits already" if rules.overlap is Overlap.QUEUE else ""
    return f"{_running(under_way, 'was', 'were')}{waits} (overlap: {rules.overlap.value})."


def _why_held(rules: FlowRules, under_way: Sequence[RunUnderWay]) -> str:
    what = f"overlap: {rules.overlap.value}" if rules.max_running is None else f"at most {rules.max_running} at once"
    return f"Waits for room: {_running(under_way, 'is', 'are')} ({what})."


def _running(under_way: Sequence[RunUnderWay], one: str, several: str) -> str:
    if len(under_way) == 1:
        return f"{under_way[0].name} of the same flow {one} still running"
    return f"{len(under_way)} runs of the same flow {several} still running"

"""The one order in which runs are listed: what runs, what is due, what failed lately, and the next run of each flow.

| group | which | order |
| --- | --- | --- |
| running | Submitted, Running, Cancelling | longest first |
| due | waiting, and due for more than ten seconds | longest first |
| failed | ended badly in the last 24 hours; failures of a flow in a row are one line | newest first |
| next | waiting otherwise; one line per flow | soonest first |
| ended | ended otherwise | newest first |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Generic, TypeVar

from flowherd.states import ACTIVE, FINISHED, UNSUCCESSFUL, RunState

Run = TypeVar("Run")

#: A run that has been due for longer is late: an agent that only polls takes it within that.
LATE_AFTER = timedelta(seconds=10)
#: How long a bad end counts.
LATELY = timedelta(hours=24)
#: Lines of each group that are shown where nobody asks for another number; the other groups are shown whole.
MOST_FAILED = 20
MOST_NEXT = 50

_EPOCH = datetime.fromtimestamp(0, timezone.utc)
#: States of a run that ended badly by itself.
BAD = UNSUCCESSFUL | {RunState.CLIENT_FAILED}


class Group(str, Enum):
    """A part of the list, in its order."""

    RUNNING = "running"
    DUE = "due"
    FAILED = "failed"
    NEXT = "next"
    ENDED = "ended"

    __str__ = str.__str__


_PLACES = {group: place for place, group in enumerate(Group)}


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What decides the place of a run. All times are aware."""

    #: The flow, whatever its version: anything that is equal for two runs of one flow.
    flow: Hashable
    state: str
    #: When it may start: the time of its state if that has one, else that it was created for.
    due: datetime | None
    started: datetime | None
    ended: datetime | None


@dataclass(frozen=True)
class Line(Generic[Run]):
    """A line of the list."""

    run: Run
    group: Group
    #: Number of runs that the line stands for: failures in a row, or runs of the flow that wait.
    count: int = 1


def group_of(facts: RunFacts, now: datetime) -> Group:
    """Return the group of a run."""
    state = facts.state
    if state in ACTIVE or state == RunState.SUBMITTED:
        return Group.RUNNING
    if state in BAD and facts.ended is not None and now - facts.ended <= LATELY:
        return Group.FAILED
    if state in FINISHED or state in BAD:
        return Group.ENDED
    waits_for_person = state in (RunState.PAUSED, RunState.PENDING)
    if facts.due is not None and now - facts.due > LATE_AFTER and not waits_for_person:
        return Group.DUE
    return Group.NEXT


def in_order(
    runs: Iterable[Run], facts_of: Callable[[Run], RunFacts], now: datetime, *, fold: bool = True
) -> list[Line[Run]]:
    """Return the lines of the list. With `fold` failures in a row are one line, and so are the waiting runs of a flow.

    A run that ended well between two failures of its flow ends the row, if it is among `runs`.
    """
    placed = [(group_of(facts, now), facts, run) for run in runs for facts in (facts_of(run),)]
    placed.sort(key=lambda one: (_PLACES[one[0]], _within(one[0], one[1])))
    if not fold:
        return [Line(run, group) for group, _, run in placed]
    heads = _heads([(group, facts) for group, facts, _ in placed])
    return [Line(run, group, heads[n]) for n, (group, _, run) in enumerate(placed) if n in heads]


def _within(group: Group, facts: RunFacts) -> float:
    """Return the sort key within a group."""
    if group in (Group.FAILED, Group.ENDED):
        return -_seconds(facts.ended or facts.started or facts.due)
    if group is Group.RUNNING:
        return _seconds(facts.started or facts.due)
    return _seconds(facts.due) if facts.due is not None else float("inf")


def _seconds(at: datetime | None) -> float:
    return 0.0 if at is None else (at - _EPOCH).total_seconds()


def _heads(placed: Sequence[tuple[Group, RunFacts]]) -> dict[int, int]:
    """Return the places of the runs that have a line of their own, and for how many runs each line stands."""
    streaks = _streaks(placed)
    heads: dict[int, int] = {}
    first: dict[Hashable, int] = {}
    for n, (group, facts) in enumerate(placed):
        key: Hashable = n
        if group is Group.FAILED:
            key = ("failed", facts.flow, streaks[n])
        elif group is Group.NEXT:
            key = ("next", facts.flow)
        head = first.setdefault(key, n)
        heads[head] = heads.get(head, 0) + 1
    return heads


def _streaks(placed: Sequence[tuple[Group, RunFacts]]) -> dict[int, int]:
    """Return, for the places of failed runs, how many runs of the flow ended in another way after it."""
    by_end = sorted(
        ((facts.ended, n) for n, (group, facts) in enumerate(placed) if facts.ended is not None), reverse=True
    )
    others: Counter[Hashable] = Counter()
    streaks = {}
    for _, n in by_end:
        group, facts = placed[n]
        if group is Group.FAILED:
            streaks[n] = others[facts.flow]
        else:
            others[facts.flow] += 1
    return streaks


@dataclass(frozen=True)
class Cut(Generic[Run]):
    """What is shown of a list, and how many of its runs are not."""

    shown: Sequence[Line[Run]]
    #: Number of runs that have no place in a line, by group; groups without any are missing.
    hidden: Mapping[Group, int]


def cut(lines: Sequence[Line[Run]], most: Mapping[Group, int], totals: Mapping[Group, int] | None = None) -> Cut[Run]:
    """Return at most so many lines of each group; groups that `most` does not name are whole.

    `totals` has the number of runs of a group if `lines` stand for a part of it.
    """
    seen: Counter[Group] = Counter()
    shown = []
    left: Counter[Group] = Counter()
    for line in lines:
        seen[line.group] += 1
        left[line.group] += line.count
        if seen[line.group] <= most.get(line.group, len(lines)):
            shown.append(line)
    left.update({group: total - left[group] for group, total in (totals or {}).items()})
    for line in shown:
        # A line of failures in a row stands for all of them, that of a flow's waiting runs shows the next.
        left[line.group] -= 1 if line.group is Group.NEXT else line.count
    return Cut(shown, {group: number for group, number in left.items() if number > 0})

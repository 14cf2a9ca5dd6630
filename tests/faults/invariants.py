"""What must be true of every run, whatever was killed: a function of the evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.faults import plan
from tests.faults.evidence import Facts, Identity, Stored

#: State, reason, and what the message must say.
End = tuple[str, str | None, str]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise: `kind` is a column of the summary."""

    kind: str
    run_id: str
    evidence: str


@dataclass(kw_only=True)
class Kills:
    """Who of a run was killed by the kit, and whether it was cancelled."""

    #: Names of the signals sent to the flow process while it lived.
    flow: list[str] = field(default_factory=list)
    runner: bool = False
    cancelled: bool = False
    #: The server was away while it lived.
    server_away: bool = False
    #: What it sent through the network met a storm.
    storm: bool = False
    #: The kernel's out-of-memory killer struck on this host meanwhile, whomever: a SIGKILL is probably its doing then.
    oom_on_host: bool = False


class Rules(Protocol):
    """What is true of runs at one backend."""

    #: States in which a run is over.
    finals: Collection[str]
    #: Whether a run's end is told by the agent alone, and so after all its processes are gone.
    agent_ends_runs: bool
    #: Points at which a runner can die without a trace of user code.
    traceless_points: Collection[str]

    def doubled(self, stored: Stored, kills: Kills) -> Iterable[str]:
        """What its history holds that can only be there when something was done twice."""
        ...

    def succeeded(self, stored: Stored) -> bool:
        """Whether it counts as having done all its work."""
        ...

    def is_told(self, stored: Stored) -> bool:
        """Whether its log must say how it ended."""
        ...

    def possible_ends(self, stored: Stored, facts: Facts, kills: Kills) -> list[End]:
        """The ends that would be true."""
        ...


def attribute_points(
    points: Iterable[tuple[str, Identity]],
    found: Mapping[str, Facts],
    kills: Mapping[str, Kills],
    traceless_points: Collection[str] = plan.BEFORE_USER_CODE,
) -> list[tuple[str, Identity]]:
    """Note in `kills` whose runner died at one of `points`; the deaths that are nobody's.

    A runner is known by the pid and start ticks that its flow wrote down. What died before that is known only by
    there being a run without a trace of user code, so those are given out last, in the order of `found`.
    """
    owner = {runner: run_id for run_id, facts in found.items() for runner in facts.runners}
    unknown = []
    for point, who in points:
        if who in owner:
            kills[owner[who]].runner = True
        else:
            unknown.append((point, who))
    traceless = (run_id for run_id, facts in found.items() if not facts.flows and not kills[run_id].runner)
    left = []
    for point, who in unknown:
        run_id = next(traceless, None) if point in traceless_points else None
        if run_id is None:
            left.append((point, who))
        else:
            kills[run_id].runner = True
    return left


def check(rules: Rules, stored: Stored, facts: Facts, kills: Kills) -> Iterator[Violation]:
    """The promises that a run breaks."""
    found = (
        *_ends(rules, stored, kills),
        *_starts(rules, stored, facts),
        *_cause(rules, stored, facts, kills),
        *_lines(rules, stored, facts, kills),
    )
    for kind, evidence in found:
        yield Violation(kind=kind, run_id=stored.run_id, evidence=f"{evidence}; {stored}; {facts}; {kills}")


def _ends(rules: Rules, stored: Stored, kills: Kills) -> Iterator[tuple[str, str]]:
    if stored.state not in rules.finals:
        yield "lost", f"it is {stored.state} for ever"
    for evidence in rules.doubled(stored, kills):
        yield "doubled", evidence


def _starts(rules: Rules, stored: Stored, facts: Facts) -> Iterator[tuple[str, str]]:
    if len(facts.flows) > 1:
        yield "doubled", f"its code was started {len(facts.flows)} times"
    if not facts.flows and rules.succeeded(stored):
        yield "lost", "it succeeded and its code never ran"


def _cause(rules: Rules, stored: Stored, facts: Facts, kills: Kills) -> Iterator[tuple[str, str]]:
    if stored.state not in rules.finals:
        return
    allowed = rules.possible_ends(stored, facts, kills)
    told = (stored.state, stored.reason)
    if not any(told == (state, reason) and words in stored.message for state, reason, words in allowed):
        yield "wrong cause", f"told as {told} with {stored.message!r}, true is one of {allowed}"


def _lines(rules: Rules, stored: Stored, facts: Facts, kills: Kills) -> Iterator[tuple[str, str]]:
    doubled = len(stored.lines) - len(set(stored.lines))
    if doubled:
        yield "log lines doubled", f"{doubled} lines are there more than once"
    if stored.lines != sorted(stored.lines):
        yield "log lines out of order", f"{stored.lines}"
    missing = set(facts.lines) - set(stored.lines)
    if kills.runner:  # what it had not read any more is lost with it, and nothing else
        missing = {number for number in missing if number < max(stored.lines, default=-1)}
    if missing:
        yield "log lines lost", f"lines {sorted(missing)} are not there"
    if stored.state in rules.finals and len(stored.notices) != int(rules.is_told(stored)):
        kind = "log lines doubled" if stored.notices else "log lines lost"
        yield kind, f"its end is told {len(stored.notices)} times: {stored.notices}"

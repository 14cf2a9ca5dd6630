"""What must be true of every run, whatever was killed, as a function of the evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tests.faults import plan
from tests.faults.evidence import Facts, Identity, StoredRun

#: State, reason, and a text that the message must contain.
End = tuple[str, str | None, str]


@dataclass(frozen=True, kw_only=True)
class Violation:
    """One broken promise."""

    #: One of report.BROKEN.
    kind: str
    run_id: str
    evidence: str


@dataclass(kw_only=True)
class RunFaults:
    """What the kit did to a run."""

    #: Names of the signals sent to the flow process while it was alive.
    flow_signals: list[str] = field(default_factory=list)
    runner_killed: bool = False
    cancelled: bool = False
    #: Whether the server was away while the run went on.
    server_away: bool = False
    #: Whether the network had faults while the run went on.
    network_faults: bool = False
    #: Whether the kernel's out-of-memory killer killed any process of the host: a SIGKILL may be reported as its.
    oom_on_host: bool = False


class Rules(Protocol):
    """What is true of runs at one backend."""

    @property
    def finals(self) -> Collection[str]:
        """States in which a run has ended."""

    @property
    def agent_ends_runs(self) -> bool:
        """Whether the agent alone reports the end of a run, so it comes after all its processes have ended."""

    @property
    def traceless_points(self) -> Collection[str]:
        """Points at which a runner can die without a trace of user code."""

    def doubled(self, stored: StoredRun, run_faults: RunFaults) -> Iterable[str]:
        """Describe what in its history shows that something was done twice."""
        ...

    def succeeded(self, stored: StoredRun) -> bool:
        """Whether it counts as having done all its work."""
        ...

    def has_notice(self, stored: StoredRun) -> bool:
        """Whether its log must have a line about its end."""
        ...

    def possible_ends(self, stored: StoredRun, facts: Facts, run_faults: RunFaults) -> list[End]:
        """Return the ends that would be true."""
        ...


def attribute_points(
    points: Iterable[tuple[str, Identity]],
    found: Mapping[str, Facts],
    run_faults: Mapping[str, RunFaults],
    traceless_points: Collection[str] = plan.BEFORE_USER_CODE,
) -> list[tuple[str, Identity]]:
    """Note in `run_faults` whose runner died at one of `points`; return the deaths that belong to no run.

    A runner is known by the pid and start ticks that its flow wrote down. A runner that died before that is known only
    because a run has no trace of user code, so those are assigned last, in the order of `found`; and so are those whose
    flow could not see them, if they died before the kit had looked.
    """
    owner = {runner: run_id for run_id, facts in found.items() for runner in facts.runners}
    unknown = []
    for point, who in points:
        if who in owner:
            run_faults[owner[who]].runner_killed = True
        else:
            unknown.append((point, who))
    unseen = [run_id for run_id, facts in found.items() if not facts.runners and not run_faults[run_id].runner_killed]
    traceless = (run_id for run_id in unseen if not found[run_id].flows)
    nameless = (run_id for run_id in unseen if found[run_id].flows)
    left = []
    for point, who in unknown:
        run_id = next(traceless, None) if point in traceless_points else None
        run_id = next(nameless, None) if run_id is None else run_id
        if run_id is None:
            left.append((point, who))
        else:
            run_faults[run_id].runner_killed = True
    return left


def check(rules: Rules, stored: StoredRun, facts: Facts, run_faults: RunFaults) -> Iterator[Violation]:
    """Yield the promises that a run breaks."""
    found = (
        *_ends(rules, stored, run_faults),
        *_starts(rules, stored, facts),
        *_cause(rules, stored, facts, run_faults),
        *_lines(rules, stored, facts, run_faults),
    )
    for kind, evidence in found:
        yield Violation(kind=kind, run_id=stored.run_id, evidence=f"{evidence}; {stored}; {facts}; {run_faults}")


def _ends(rules: Rules, stored: StoredRun, run_faults: RunFaults) -> Iterator[tuple[str, str]]:
    if stored.state not in rules.finals:
        yield "lost", f"it stays {stored.state}"
    for evidence in rules.doubled(stored, run_faults):
        yield "doubled", evidence


def _starts(rules: Rules, stored: StoredRun, facts: Facts) -> Iterator[tuple[str, str]]:
    if len(facts.flows) > 1:
        yield "doubled", f"its code was started {len(facts.flows)} times"
    if not facts.flows and rules.succeeded(stored):
        yield "lost", "it succeeded and its code never ran"


def _cause(rules: Rules, stored: StoredRun, facts: Facts, run_faults: RunFaults) -> Iterator[tuple[str, str]]:
    if stored.state not in rules.finals:
        return
    allowed = rules.possible_ends(stored, facts, run_faults)
    reported = (stored.state, stored.reason)
    if not any(reported == (state, reason) and words in stored.message for state, reason, words in allowed):
        yield "wrong cause", f"reported as {reported} with {stored.message!r}, one of {allowed} is true"


def _lines(rules: Rules, stored: StoredRun, facts: Facts, run_faults: RunFaults) -> Iterator[tuple[str, str]]:
    doubled = len(stored.lines) - len(set(stored.lines))
    if doubled:
        yield "log lines doubled", f"{doubled} lines are there more than once"
    if stored.lines != sorted(stored.lines):
        yield "log lines out of order", f"{stored.lines}"
    missing = set(facts.lines) - set(stored.lines)
    if run_faults.runner_killed:  # only what it had not read yet is lost with it
        missing = {number for number in missing if number < max(stored.lines, default=-1)}
    if missing:
        yield "log lines lost", f"lines {sorted(missing)} are missing"
    if stored.state in rules.finals and len(stored.notices) != int(rules.has_notice(stored)):
        kind = "log lines doubled" if stored.notices else "log lines lost"
        yield kind, f"{len(stored.notices)} lines about its end: {stored.notices}"

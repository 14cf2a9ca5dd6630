"""The figures of a session: what was done, and which promises were broken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.faults.invariants import Violation

#: Columns of the summary that must be zero.
BROKEN = (
    "lost",
    "doubled",
    "wrong cause",
    "log lines lost",
    "log lines doubled",
    "log lines out of order",
    "leftovers",
    "programs that ended by themselves",
)


@dataclass(kw_only=True)
class Report:
    """The figures of one session."""

    seed: int
    minutes: float
    runs: int = 0
    #: Number of runs by their last state.
    ends: Counter[str] = field(default_factory=Counter)
    #: Number of runs by their level of isolation; "?" if the server was killed before it had answered their creation.
    levels: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    lines: int = 0
    #: Number of lines that were not read yet when their runner was killed.
    lines_unread: int = 0
    violations: list[Violation] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes killed by the kit."""
        return sum(count for kind, count in self.faults.items() if kind.startswith(("killed", "died")))

    @property
    def broken(self) -> Counter[str]:
        """Violations by kind."""
        return Counter(violation.kind for violation in self.violations)

    def as_json(self) -> str:
        """Return all of it as JSON."""
        found = {**vars(self), "kills": self.kills, "broken": {kind: self.broken[kind] for kind in BROKEN}}
        return json.dumps({**found, "violations": [vars(each) for each in self.violations]}, indent=2)

    def as_text(self) -> str:
        """Return all of it as text."""
        return "\n".join(self._text())

    def _text(self) -> Iterator[str]:
        yield f"seed {self.seed}, {self.minutes:g} minutes"
        yield "\nfaults"
        for kind, count in sorted(self.faults.items()):
            yield f"  {kind:<46} {count:>6}"
        yield f"  {'kills in all':<46} {self.kills:>6}"
        yield "\nruns"
        for state, count in sorted(self.ends.items()):
            yield f"  ended {state:<40} {count:>6}"
        for level, count in sorted(self.levels.items()):
            yield f"  level {level:<40} {count:>6}"
        yield f"  {'in all':<46} {self.runs:>6}"
        yield f"  {'log lines':<46} {self.lines:>6}"
        yield f"  {'log lines unread when their runner was killed':<46} {self.lines_unread:>6}"
        yield "\nbroken promises"
        for kind in BROKEN:
            yield f"  {kind:<46} {self.broken[kind]:>6}"
        for violation in self.violations:
            yield f"\n{violation.kind}: run {violation.run_id}, seed {self.seed}\n  {violation.evidence}"

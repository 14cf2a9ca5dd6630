"""What a session does and when: a function of the seed and the length, so that it can be played again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

#: Fault points by the process that dies there (docs/design.md, section 4).
AGENT_POINTS = (
    "before-intent",
    "after-intent",
    "before-claim",
    "after-claim",
    "before-start-request",
    "after-start-request",
    "after-started",
    "before-running",
    "after-running",
    "before-write-logs",
    "before-forwarded",
    "after-forwarded",
    "before-settle",
    "after-notice",
    "after-outbox",
    "before-report-start",
    "after-report-start",
    "before-report-end",
    "after-report-end",
    "before-remove",
    "during-remove",
)
FORK_SERVER_POINTS = ("fork-server-before-fork", "fork-server-after-fork")
#: The first four can come before the user's code, which starts beside the runner.
RUNNER_POINTS = (
    "runner-at-birth",
    "runner-before-started",
    "runner-after-started",
    "runner-after-go",
    "runner-before-clearing",
    "runner-before-exit-record",
    "runner-after-exit-record",
)
BEFORE_USER_CODE = frozenset(RUNNER_POINTS[:4])
POINTS = AGENT_POINTS + FORK_SERVER_POINTS + RUNNER_POINTS

#: Mean seconds between two faults of a kind.
_MEAN_PAUSE_S = {
    "kill flow": 5.0,
    "kill runner": 6.0,
    "kill agent": 13.0,
    "kill fork server": 14.0,
    "kill server": 31.0,
    "kill several": 33.0,
    "stop agent": 27.0,
    "storm": 17.0,
    "arm point": 7.0,
}
_KILLABLE = ("flow", "runner", "agent", "fork server", "server")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that happens at `at_s` seconds from the start."""

    at_s: float
    kind: str
    #: Chooses among those who can be hit then, in [0, 1).
    pick: float
    #: How long it lasts, or how long what was killed stays away.
    duration_s: float
    #: Of "arm point".
    point: str = ""
    count: int = 1
    #: Of "kill several".
    victims: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One flow run: what its code is told, and for one that hangs how it ends: who is killed, or a user cancels it."""

    parameters: dict[str, Any]
    command: bool
    ended_by: str
    ended_after_s: float


def faults(seed: int, minutes: float) -> list[Fault]:
    """All faults of a session in the order of their times."""
    chosen = random.Random(f"{seed} faults")
    found = []
    for kind, mean_s in _MEAN_PAUSE_S.items():
        at_s = chosen.expovariate(1 / mean_s)
        while at_s < 60 * minutes:
            found.append(_fault(chosen, kind, at_s))
            at_s += chosen.expovariate(1 / mean_s)
    return sorted(found, key=lambda fault: fault.at_s)


def _fault(chosen: random.Random, kind: str, at_s: float) -> Fault:
    return Fault(
        at_s=round(at_s, 3),
        kind=kind,
        pick=chosen.random(),
        duration_s=round(chosen.choice((0.0, chosen.uniform(0.1, 1.0), chosen.uniform(1.0, 4.0))), 3),
        point=chosen.choice(POINTS),
        count=chosen.choice((1, 1, 2, 3)),
        victims=tuple(chosen.sample(_KILLABLE, chosen.randint(2, len(_KILLABLE)))),
    )


def runs(seed: int, facts: str) -> Iterator[PlannedRun]:
    """The runs of a session, one after the other, without an end; `facts` is where they write."""
    chosen = random.Random(f"{seed} runs")
    while True:
        parameters = {
            "facts": facts,
            "ending": chosen.choices(("ok", "code", "raise", "hang"), (62, 12, 12, 14))[0],
            "seconds": round(chosen.choice((chosen.uniform(0.05, 0.4), chosen.uniform(0.3, 3.0))), 3),
            "lines": chosen.randint(1, 25),
            "child": chosen.choices(("none", "forked", "program"), (80, 12, 8))[0],
        }
        yield PlannedRun(
            parameters=parameters,
            command=chosen.random() < 0.2,
            ended_by=chosen.choices(("flow", "runner", "user"), (40, 35, 25))[0],
            ended_after_s=chosen.uniform(0.0, 1.5),
        )

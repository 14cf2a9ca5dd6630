"""What a session does and when, as a function of the seed and the length, so it can be repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Fault points, by the process that dies there (docs/design.md, section 4).
AGENT_POINTS = (
    "before-intent",
    "after-intent",
    "before-start-request",
    "after-start-request",
    "before-claim",
    "after-claim",
    "before-go",
    "after-go",
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
#: The first five can come before the user's code, which starts in parallel to the runner.
RUNNER_POINTS = (
    "runner-at-birth",
    "runner-prepared",
    "runner-before-started",
    "runner-after-started",
    "runner-after-go",
    "runner-before-clearing",
    "runner-before-exit-record",
    "runner-after-exit-record",
)
BEFORE_USER_CODE = frozenset(RUNNER_POINTS[:5])
POINTS = AGENT_POINTS + FORK_SERVER_POINTS + RUNNER_POINTS


@dataclass(frozen=True, kw_only=True)
class FaultRates:
    """How often faults happen, and how many runs go on."""

    #: Mean pause between two faults of a kind, seconds.
    mean_pause_s: Mapping[str, float]
    #: Runs that go on or wait at the same time.
    runs_at_a_time: int
    #: Factor for the time for which a killed process stays away.
    away_factor: float = 1.0
    #: Age before which an agent is not killed, seconds: it would never get to work.
    grown_s: float = 0.0
    #: Time after the last fault in which everything must end, seconds.
    settle_s: float = 90.0
    #: How long the user's code takes, from and to, seconds; None for tenths of a second up to three.
    run_s: tuple[float, float] | None = None
    #: Age after which a run does not count as one of those at the same time, seconds.
    old_s: float = 40.0


#: For a server and runs that start in tenths of a second.
FAST = FaultRates(
    mean_pause_s={
        "kill flow": 5.0,
        "kill runner": 6.0,
        "kill agent": 13.0,
        "kill fork server": 14.0,
        "kill server": 31.0,
        "kill several": 33.0,
        "stop agent": 27.0,
        "network faults": 17.0,
        "arm point": 7.0,
        "fill disk": 43.0,
    },
    runs_at_a_time=9,
)
#: For a server, agents and runs that start in seconds; runs are also cancelled at any moment.
SLOW = FaultRates(
    mean_pause_s={
        "kill flow": 7.0,
        "kill runner": 8.0,
        "kill agent": 20.0,
        "kill fork server": 25.0,
        "kill server": 50.0,
        "kill several": 70.0,
        "stop agent": 35.0,
        "network faults": 25.0,
        "arm point": 7.0,
        "cancel run": 8.0,
    },
    runs_at_a_time=6,
    away_factor=0.7,
    grown_s=6.0,
    settle_s=150.0,
)
#: For hundreds of runs that go on at the same time.
CROWD = FaultRates(
    mean_pause_s={**FAST.mean_pause_s, "kill flow": 0.5, "kill runner": 0.5, "arm point": 3.0},
    runs_at_a_time=500,
    settle_s=300.0,
    run_s=(20.0, 60.0),
    old_s=600.0,
)
_KILLABLE = ("flow", "runner", "agent", "fork server", "server")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One event of the plan."""

    #: When it happens, seconds from the start.
    at_s: float
    kind: str
    #: Choice among the processes that can be hit then, in [0, 1).
    pick: float
    #: How long it lasts, or how long the killed process stays away, seconds.
    duration_s: float
    #: Point and number of the pass, for "arm point".
    point: str = ""
    count: int = 1
    #: Victims of "kill several".
    victims: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One flow run: its parameters, and how a hanging one is ended."""

    parameters: dict[str, Any]
    command: bool
    #: Whether an engine that talks to the server itself does so without the network of the agents.
    direct: bool
    #: The process that is killed, or "user" for a cancellation.
    ended_by: str
    ended_after_s: float
    #: What keeps it apart.
    level: str = "none"


def faults(seed: int, minutes: float, rates: FaultRates = FAST) -> list[Fault]:
    """Return all faults of a session in the order of their times."""
    chosen = random.Random(f"{seed} faults")
    found = []
    for kind, mean_s in rates.mean_pause_s.items():
        at_s = chosen.expovariate(1 / mean_s)
        while at_s < 60 * minutes:
            found.append(_fault(chosen, kind, at_s, rates.away_factor))
            at_s += chosen.expovariate(1 / mean_s)
    return sorted(found, key=lambda fault: fault.at_s)


def _fault(chosen: random.Random, kind: str, at_s: float, away_factor: float) -> Fault:
    return Fault(
        at_s=round(at_s, 3),
        kind=kind,
        pick=chosen.random(),
        duration_s=round(away_factor * chosen.choice((0.0, chosen.uniform(0.1, 1.0), chosen.uniform(1.0, 4.0))), 3),
        point=chosen.choice(POINTS),
        count=chosen.choice((1, 1, 2, 3)),
        victims=tuple(chosen.sample(_KILLABLE, chosen.randint(2, len(_KILLABLE)))),
    )


def runs(
    seed: int, facts: str, levels: Sequence[str] = ("none",), run_s: tuple[float, float] | None = None
) -> Iterator[PlannedRun]:
    """Yield the runs of a session without an end; `facts` is the directory where they write."""
    # The names are part of the seeds, which repeat the sessions of earlier versions.
    chosen, routes, kept_apart = (random.Random(f"{seed} {name}") for name in ("runs", "roads", "levels"))
    while True:
        parameters = {
            "facts": facts,
            "ending": chosen.choices(("ok", "code", "raise", "hang"), (62, 12, 12, 14))[0],
            "seconds": round(chosen.choice((chosen.uniform(0.05, 0.4), chosen.uniform(0.3, 3.0))), 3),
            "lines": chosen.randint(1, 25),
            "child": chosen.choices(("none", "forked", "program"), (80, 12, 8))[0],
        }
        if run_s is not None:
            parameters["seconds"] = round(kept_apart.uniform(*run_s), 3)
        yield PlannedRun(
            parameters=parameters,
            command=chosen.random() < 0.2,
            direct=routes.random() < 0.5,
            ended_by=chosen.choices(("flow", "runner", "user"), (40, 35, 25))[0],
            ended_after_s=chosen.uniform(0.0, 1.5),
            level=kept_apart.choice(levels),
        )

"""Runs that wait for their deployment's concurrency limit are proposed at the pace of the server's answers.

A claim beyond the limit is refused, and the server postpones that run by half a minute. With hundreds of such runs
nearly every claim would be refused, and the claims of other runs would wait for them. So once a claim was refused for
its deployment's limit, that deployment's other runs are left for a moment, and then a few are proposed.

They cannot all be left: the server lists at most 200 due runs, the oldest first, and these would hide all others. So
when the list gets long some are proposed only to be postponed: a few after each poll, because other runs have to wait
for these claims too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from flowherd.backends.prefect3.pool import MAX_RUNS
from flowherd.backends.prefect3.run_row import RunRow

#: Name of the state in which the server puts a run that has to wait for its deployment's limit.
AWAITING_SLOT = "AwaitingConcurrencySlot"
#: How long after a refusal no other run of the deployment is proposed, seconds.
PAUSE_S = 2.0
#: Number of runs of a deployment that are proposed after one poll once that time is over.
PROBES = 3
#: Number of runs in a list from which some of these are proposed only to be postponed.
CROWDED = 150
#: How many of them after one poll, and how many if the list was full.
PUSHED, PUSHED_OF_FULL = 10, 50
_MAX_DEPLOYMENTS = 1000


class SlotWaits:
    """What is known of the limits of deployments; usable from several threads."""

    def __init__(self) -> None:
        #: Time until which a deployment's limit counts as reached (monotonic), by deployment id.
        self._reached_until_s: dict[str, float] = {}
        #: Ids of the runs that the latest poll has chosen although their deployment's limit is reached.
        self._chosen: frozenset[str] = frozenset()

    def refused(self, deployment_id: str | None) -> None:
        """Note that a claim was refused because of its deployment's limit."""
        if deployment_id is not None:
            if len(self._reached_until_s) >= _MAX_DEPLOYMENTS:
                self._reached_until_s.clear()
            self._reached_until_s[deployment_id] = time.monotonic() + PAUSE_S

    def accepted(self, deployment_id: str | None) -> None:
        """Note that a claim was accepted, so there may be room for more."""
        if deployment_id is not None:
            self._reached_until_s.pop(deployment_id, None)

    def is_left(self, row: RunRow) -> bool:
        """Return whether the run is not to be proposed: a claim of the same poll was refused for the limit."""
        until_s = self._reached_until_s.get(row.deployment_id or "", 0.0)
        return until_s > time.monotonic() and row.id not in self._chosen

    def paced(self, rows: Sequence[RunRow], listed: int) -> tuple[list[RunRow], float | None]:
        """Return the due runs that are to be proposed now, and the seconds until others may be; None if all are.

        Those of deployments whose limit was not reached lately come first. `listed` is the number of runs in the
        server's list.
        """
        now_s = time.monotonic()
        probes: Counter[str] = Counter()
        to_push = 0 if listed < CROWDED else PUSHED if listed < MAX_RUNS else PUSHED_OF_FULL
        free: list[RunRow] = []
        chosen: list[RunRow] = []
        next_s: float | None = None
        for row in rows:
            until_s = self._reached_until_s.get(row.deployment_id or "")
            if until_s is None:
                free.append(row)
            elif until_s <= now_s and probes[row.deployment_id or ""] < PROBES:
                probes[row.deployment_id or ""] += 1
                chosen.append(row)
            elif len(chosen) < to_push:
                chosen.append(row)
            else:
                wait_s = max(until_s - now_s, 0.0) or PAUSE_S
                next_s = wait_s if next_s is None else min(next_s, wait_s)
        self._chosen = frozenset(row.id for row in (*chosen, *free[: max(0, to_push - len(chosen))]))
        return [*free, *chosen], next_s

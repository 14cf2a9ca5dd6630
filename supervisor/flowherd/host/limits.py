"""Decides whether a run uses more than it may, and whether its host has too much output to deliver.

The runner enforces run time, open files and CPU time; the agent enforces memory and the number of processes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from flowherd.agent.health import ClaimPause
from flowherd.host.processes.process_tree import Usage
from flowherd_runner.contract import reasons
from flowherd_runner.contract.spec import RunLimits

#: Minimum pause between two looks at all that waits for the backend, seconds.
_SPOOL_LOOK_S = 0.1


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A limit that was exceeded: the reason from the contract, and a sentence with both figures."""

    reason: str
    detail: str


def is_limited(limits: RunLimits) -> bool:
    """Return whether there is a limit that the agent enforces."""
    return limits.memory_bytes is not None or limits.processes is not None


def breach(usage: Usage, limits: RunLimits) -> Breach | None:
    """Return the first of a run's limits that `usage` exceeds; None if it exceeds none."""
    memory = limits.memory_bytes
    if memory is not None and usage.memory_bytes > memory:
        return Breach(
            reason=reasons.REASON_MEMORY,
            detail=f"Memory limit exceeded: {mebibytes(usage.memory_bytes)} in {_count(usage.processes)}, "
            f"the limit is {mebibytes(memory)}{of_resident_sets(usage)}.",
        )
    processes = limits.processes
    if processes is not None and usage.processes > processes:
        return Breach(
            reason=reasons.REASON_PROCESSES,
            detail=f"Process limit exceeded: {_count(usage.processes)}, the limit is {processes}.",
        )
    return None


class SpoolLimit:
    """Lets nothing be claimed while more than `cap` bytes of output wait for the backend; None for no limit.

    `measure` returns how many do. It looks at all runs, so it is called 10 times a second at most; from any thread.
    """

    def __init__(self, cap: int | None, measure: Callable[[], int]) -> None:
        self._cap = cap
        self._measure = measure
        self._found: ClaimPause | None = None
        self._next_look_s = 0.0

    def use(self, cap: int | None) -> None:
        """Use another limit from now on."""
        self._cap, self._found, self._next_look_s = cap, None, 0.0

    def pause(self) -> ClaimPause | None:
        """Return why nothing is to be claimed; None if it may be."""
        cap = self._cap
        if cap is not None and time.monotonic() >= self._next_look_s:
            self._found = _spool_pause(self._measure(), cap)
            self._next_look_s = time.monotonic() + _SPOOL_LOOK_S
        return self._found


def _spool_pause(spool_bytes: int, cap: int) -> ClaimPause | None:
    if spool_bytes <= cap:
        return None
    text = f"{mebibytes(spool_bytes)} of output wait for the backend, runs.max_spool_bytes is {mebibytes(cap)}"
    return ClaimPause(word="spool full", reason=text)


def mebibytes(count: int) -> str:
    """Return a number of bytes as text for people."""
    return f"{count / 2**20:.1f} MiB"


def of_resident_sets(usage: Usage) -> str:
    """Say how much of the figure counts shared pages in full; empty if that is nothing."""
    if not usage.resident:
        return ""
    return f"; counted with the whole resident set (RSS), because its share cannot be read: {_count(usage.resident)}"


def _count(processes: int) -> str:
    return f"{processes} process" + ("" if processes == 1 else "es")

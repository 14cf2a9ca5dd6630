"""Says once, in a run's log and in its history, that its memory nears the limit."""

from __future__ import annotations

import logging
import time

from flowherd.host.limits import of_resident_sets
from flowherd.host.processes.process_tree import exact_usage
from flowherd.host.run import Run
from flowherd.shown_times import spoken_size
from flowherd.story.account import NEAR_LIMIT
from flowherd.story.verdict import NEAR_LIMIT_SHARE

#: Time between two exact readings of a run whose shared pages, counted more than once, may be what is near, seconds.
_EXACT_S = 10.0


class NearLimits:
    """Looks at the runs of one watcher, in its thread."""

    def __init__(self) -> None:
        self._next_exact_s: dict[str, float] = {}

    def look(self, run: Run) -> None:
        """Say that the run nears its limit of memory, if it does and that was not said before."""
        limit, now_s = run.limits.memory_bytes, time.monotonic()
        near = None if limit is None else NEAR_LIMIT_SHARE * limit
        if near is None or run.tree.usage.memory_bytes < near or now_s < self._next_exact_s.get(run.id, 0.0):
            return
        self._next_exact_s = {known: at_s for known, at_s in self._next_exact_s.items() if at_s > now_s}
        self._next_exact_s[run.id] = now_s + _EXACT_S
        if limit is None or run.history.has(NEAR_LIMIT):
            return
        usage = exact_usage(run.tree)
        if usage.memory_bytes < near:
            return
        figures = f"{spoken_size(usage.memory_bytes)} of {spoken_size(limit)}{of_resident_sets(usage)}"
        run.history.note(NEAR_LIMIT, f"memory, {figures}")
        share = f"{NEAR_LIMIT_SHARE:.0%}".replace("%", " %")
        run.note(f"Memory is above {share} of its limit: {figures}.", logging.WARNING, "near-limit")

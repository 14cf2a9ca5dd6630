"""What a run's processes have used lately, from the looks at them: the peak, the share of a processor, idleness."""

from __future__ import annotations

import time
from dataclasses import replace

from flowherd.host.processes.process_tree import ProcessTree

#: A run that uses less of one processor than this is idle.
_IDLE_SHARE = 0.01
#: CPU time that an idle run may use in one go, seconds: what a minute at that share comes to.
_BURST_S = 0.6
#: Time between two readings that are kept, and the least over which a share is computed, seconds.
_STEP_S, _SHARE_OVER_S = 1.0, 2.0
_MOST_READINGS = 6


class RunMeter:
    """Reads one run. `observe` is called by one thread, everything else by any."""

    def __init__(self) -> None:
        #: Since when the run uses less than 1 % of a processor, or since when it is watched; seconds since the epoch.
        self.idle_since = time.time()
        #: CPU time beyond that share which was used lately: a bucket that leaks by the share.
        self._excess_s = 0.0
        #: Readings of the clock (monotonic) and of the CPU time, oldest first, and the newest.
        self._readings: tuple[tuple[float, float], ...] = ()
        self._newest: tuple[float, float] | None = None

    def observe(self, before: ProcessTree, found: ProcessTree) -> ProcessTree:
        """Take what a look has found, and return it with the highest memory so far."""
        now_s, cpu_s = time.monotonic(), found.usage.cpu_time_s
        if self._newest is not None:
            last_s, last_cpu_s = self._newest
            self._excess_s = max(0.0, self._excess_s - _IDLE_SHARE * (now_s - last_s)) + max(0.0, cpu_s - last_cpu_s)
            if self._excess_s > _BURST_S:
                self._excess_s, self.idle_since = 0.0, time.time()
        self._newest = now_s, cpu_s
        if not self._readings or now_s - self._readings[-1][0] >= _STEP_S:
            self._readings = (*self._readings[1 - _MOST_READINGS :], self._newest)
        peak = max(before.usage.peak_memory_bytes, found.usage.memory_bytes)
        return replace(found, usage=replace(found.usage, peak_memory_bytes=peak))

    def cpu_share(self) -> float | None:
        """Return how much of one processor the run has used in the last seconds; None if it was not seen twice yet."""
        newest, readings, now_s = self._newest, self._readings, time.monotonic()
        # Nobody looks again at a run that sleeps, so the newest reading holds until now.
        older = [one for one in readings if now_s - one[0] >= _SHARE_OVER_S]
        if newest is None or not older:
            return None
        then_s, cpu_s = older[-1]
        return round(max(0.0, newest[1] - cpu_s) / (now_s - then_s), 3)

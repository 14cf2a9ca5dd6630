"""Ends the processes that a run has left behind: asks, waits a moment, kills, and looks again until none is left.

run_processes.py finds and signals them; this module decides the order and the times.

A run whose descendants have all ended by themselves costs no search: the runner is a sub-reaper (prctl(2)), so wait4(2)
says ECHILD only when no descendant is left. That misses only what somebody else has started with the run's variable in
its environment, such as a tmux server; the agent looks for those (flowherd/host/stray_search.py).
"""

import signal
import time
from typing import Callable, Dict, List, NamedTuple, Tuple

from flowherd_runner.run_processes import Process, RunProcesses

#: Time for helpers that end by themselves once their parent is gone, like multiprocessing's resource tracker.
_SETTLE_S = 0.1
#: Time between asking and killing.
_GRACE_S = 0.3
#: When to give up on processes that even SIGKILL does not end: they hang in the kernel, and the record names them.
_KILL_DEADLINE_S = 60.0
#: How long to wait for the end of an emptied namespace.
_PLACE_S = 10.0
#: Pause between two looks at processes whose end sends no signal.
_LOOK_S = 0.02


class Cleared(NamedTuple):
    """What became of the processes that outlived the flow process."""

    #: Those that were found and ended.
    leftovers: List[Process]
    #: Those that still live after the killing.
    survivors: List[Process]
    #: Whether all processes of the host were looked at, and not only the runner's children.
    searched: bool


class LeftoverKiller:
    """Ends the processes of a run.

    `reap` takes exit statuses and returns whether children are left. `pump` waits until a time of the monotonic clock
    or until something happens; it keeps the run's output flowing, because a process may be blocked in a write.
    """

    def __init__(self, processes: RunProcesses, reap: Callable[[], bool], pump: Callable[[float], None]) -> None:
        self._processes = processes
        self._reap = reap
        self._pump = pump
        self._found: Dict[Tuple[int, int], Process] = {}

    def run(self) -> Cleared:
        """End all of them."""
        self.wait_while(self._reap, time.monotonic() + _SETTLE_S)
        survivors = self._end_all() if self._reap() else None
        if self._processes.end_place():
            self.wait_while(self._reap, time.monotonic() + _PLACE_S)
        if survivors is None:
            return Cleared([], [], searched=False)
        living = {one.key for one in survivors}
        ended = [one for one in self._found.values() if one.key not in living]
        return Cleared(ended, survivors, searched=self._processes.searches_host)

    def _end_all(self) -> List[Process]:
        """End what is left, and return what lives on."""
        left = self._note(self._processes.members())
        survivors: List[Process] = []
        if left or self._any_left():
            self._processes.send(left, signal.SIGTERM)
            self._processes.send(left, signal.SIGCONT)
            self.wait_while(self._any_left, time.monotonic() + _GRACE_S)
            self._kill(time.monotonic() + _KILL_DEADLINE_S)
            survivors = self._processes.survivors()
        return survivors

    def wait_while(self, condition: Callable[[], bool], deadline_s: float) -> None:
        """Pump while `condition` holds, at most until `deadline_s`."""
        while time.monotonic() < deadline_s and condition():
            self._pump(min(deadline_s, time.monotonic() + _LOOK_S))

    def _kill(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s and self._any_left():
            self._note(self._processes.kill_all())
            self._pump(time.monotonic() + _LOOK_S)

    def _any_left(self) -> bool:
        """Whether a process of the run lives that can be ended; asks the kernel for children, which needs no search.

        Below a process that may not be signalled there may be others that may, so then all are looked at.
        """
        if self._reap() and not self._processes.refused:
            return True
        return (self._processes.outsiders or self._processes.refused) and bool(self._processes.members())

    def _note(self, processes: List[Process]) -> List[Process]:
        self._found.update((one.key, one) for one in processes)
        return processes


def leftover_text(leftovers: List[Process]) -> str:
    """Return a sentence for the run's log on the processes that were left and were ended."""
    names = ", ".join("{} ({})".format(one.name, one.pid) for one in leftovers[:10])
    more = " and {} more".format(len(leftovers) - 10) if len(leftovers) > 10 else ""
    return "the run left processes behind, which were ended: {}{}".format(names, more)

"""Ends what a run has left behind: asks, waits a moment, kills, and looks again until the kernel knows of nobody.

The looking and signalling is tree.py's; this module owns the order and the times.
"""

import signal
import time
from typing import Callable, Dict, List, Tuple

from flowherd_runner.run_processes import Process, Tree

#: For helpers that end by themselves once their parent is gone, as the resource tracker of multiprocessing does.
_SETTLE_S = 0.1
#: Between asking and killing.
_GRACE_S = 0.3
#: Processes that even SIGKILL does not end hang in the kernel; then the record names them all the same.
_KILL_DEADLINE_S = 60.0
#: Between two looks at processes whose end sends no signal.
LOOK_S = 0.02


class Clearing:
    """Ends the processes of `tree`.

    `reap` takes exit statuses and returns whether children are left. `pump` waits until a time of the monotonic clock
    or until something happens; it keeps the run's output flowing, for a process may be blocked in a write.
    """

    def __init__(self, tree: Tree, reap: Callable[[], bool], pump: Callable[[float], None]) -> None:
        self._tree = tree
        self._reap = reap
        self._pump = pump
        self._found: Dict[Tuple[int, int], Process] = {}

    def run(self) -> Tuple[List[Process], List[Process]]:
        """End them all. Return those that were found and ended, and those that still live after the killing."""
        self.wait_while(self._reap, time.monotonic() + _SETTLE_S)
        left = self._note(self._tree.members())
        survivors: List[Process] = []
        if left or self._any_left():
            self._tree.send(left, signal.SIGTERM)
            self._tree.send(left, signal.SIGCONT)
            self.wait_while(self._any_left, time.monotonic() + _GRACE_S)
            self._kill(time.monotonic() + _KILL_DEADLINE_S)
            survivors = self._tree.survivors()
        living = {one.key for one in survivors}
        return [one for one in self._found.values() if one.key not in living], survivors

    def wait_while(self, condition: Callable[[], bool], deadline_s: float) -> None:
        """Pump as long as `condition` holds, at most until `deadline_s`."""
        while time.monotonic() < deadline_s and condition():
            self._pump(min(deadline_s, time.monotonic() + LOOK_S))

    def _kill(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s and self._any_left():
            self._note(self._tree.kill_all())
            self._pump(time.monotonic() + LOOK_S)

    def _any_left(self) -> bool:
        """Whether a process of the run lives that can be ended; asks the kernel for children, which costs no search.

        Below a process that may not be signalled there may be others that may, so then all are looked at.
        """
        if self._reap() and not self._tree.refused:
            return True
        return (self._tree.outsiders or self._tree.refused) and bool(self._tree.members())

    def _note(self, processes: List[Process]) -> List[Process]:
        self._found.update((one.key, one) for one in processes)
        return processes


def leftover_text(left: List[Process]) -> str:
    """Return a sentence for the run's log on the processes that were left and were ended."""
    names = ", ".join("{} ({})".format(one.name, one.pid) for one in left[:10])
    more = " and {} more".format(len(left) - 10) if len(left) > 10 else ""
    return "the run left processes behind, which were ended: {}{}".format(names, more)

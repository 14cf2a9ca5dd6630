"""Searches the host for processes that carry an ended run's variable and do not descend from its runner.

A runner whose children have all ended knows that no descendant is left, and looks no further. What it cannot see was
started by somebody else with the run's environment: by a tmux server, by at or cron, by a daemon that copies the
environment of its client. One pass over /proc finds these for all runs that have ended meanwhile, at most `DELAY_S`
after the first of them. The directory of a run is removed only after that, so an agent that dies in between leaves the
search to the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from loguru import logger

from flowherd.host.processes.kill_tree import end_tree
from flowherd.host.run import Run
from flowherd.host.run_remains import clear_remains
from flowherd.host.store.survivors import Survivor, listed, survivor
from flowherd.recurring_error import RecurringError
from flowherd.signals import Waker
from flowherd_runner.contract import identity

#: How long an ended run may wait for the search, seconds, so that one pass serves many runs.
DELAY_S = 0.5
#: Pause after a pass that failed, seconds.
_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What a search of the host came to for one run."""

    at: datetime
    #: Number of processes that were looked at; those of other users show their environment to root only.
    looked_at: int
    #: Processes of the run that were found.
    found: tuple[Survivor, ...] = ()
    #: Those of them that could not be ended.
    survivors: tuple[Survivor, ...] = ()

    def sentence(self) -> str:
        """Return for people what was found; empty if that was nothing."""
        if not self.found:
            return ""
        living = {(one.pid, one.start_ticks) for one in self.survivors}
        ended = [one for one in self.found if (one.pid, one.start_ticks) not in living]
        parts = [f"ended: {listed(ended)}"] if ended else []
        parts += [f"still running, could not be ended: {listed(self.survivors)}"] if self.survivors else []
        start = "Processes with this run's variable in their environment that were not started by it"
        return f"{start}; {'; '.join(parts)}."


class StraySearch:
    """Searches for the strays of ended runs, and has the directories of delivered ones removed, in a thread.

    `is_in_use` says whether a run with that id is here again; its processes are then left alone. `searched` is called
    with what was found for a run; `remove` for each run that is delivered and searched for; `rested` after each pass,
    for work that has time.
    """

    def __init__(
        self,
        is_in_use: Callable[[str], bool],
        searched: Callable[[Run, Searched], None],
        remove: Callable[[Run], None],
        rested: Callable[[], None] = lambda: None,
    ) -> None:
        self._is_in_use = is_in_use
        self._searched = searched
        self._remove = remove
        self._rested = rested
        self._lock = threading.Lock()
        #: Held while a pass is made and directories are removed.
        self._working = threading.Lock()
        #: Runs that wait for the search, by id.
        self._waiting: dict[str, Run] = {}
        #: Runs that the backend knows to have ended and whose directories are to be removed, by id.
        self._delivered: dict[str, Run] = {}
        self._due_s = 0.0
        self._closed = False
        self._waker = Waker()
        self._errors = RecurringError("search the host for processes of ended runs", logger)
        self._thread: threading.Thread | None = None

    def ended(self, run: Run) -> None:
        """Search for the run's strays soon, unless everything was searched when it ended. For any thread."""
        if not run.owes_search:
            return
        with self._lock:
            is_first = not self._waiting
            if is_first:
                self._due_s = time.monotonic() + DELAY_S
            self._waiting[run.id] = run
        if is_first:
            self._wake()

    def delivered(self, run: Run) -> None:
        """Have the directory removed once the run is searched for and not in use; call `wake` then. For any thread."""
        with self._lock:
            self._delivered[run.id] = run

    def wake(self) -> None:
        """Do what can be done now, if there is anything. For any thread."""
        with self._lock:
            can_remove = any(run_id not in self._waiting for run_id in self._delivered)
        if can_remove:  # the others are removed after the next pass
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._loop, name="stray-search", daemon=True)
                self._thread.start()
        self._waker.wake()

    def starts_again(self, flow_run_id: str) -> None:
        """Forget an ended run whose directory is about to be used by a new start of it. Waits for a pass to end."""
        if flow_run_id not in self._waiting and flow_run_id not in self._delivered:
            return
        with self._working, self._lock:
            run = self._waiting.pop(flow_run_id, None)
            self._delivered.pop(flow_run_id, None)
            if run is not None:
                clear_remains(run)

    def close(self, timeout_s: float | None) -> bool:
        """Search at once for what waits, and end the thread. Returns False if it goes on after `timeout_s`."""
        self._closed = True
        self._waker.wake()
        thread = self._thread
        if thread is None:
            return True
        thread.join(timeout_s)
        return not thread.is_alive()

    def _loop(self) -> None:
        while True:
            closing = self._closed
            try:
                self._round(at_once=closing)
            except Exception as error:  # the host may recover; the runs wait for the next pass
                self._errors.failed(error)
                self._due_s = time.monotonic() + _PAUSE_S
            else:
                self._errors.recovered()
            if closing:
                return
            with self._lock:
                pause_s = max(0.0, self._due_s - time.monotonic()) if self._waiting else None
            self._waker.wait(pause_s)

    def _round(self, *, at_once: bool) -> None:
        with self._working:
            with self._lock:
                is_due = bool(self._waiting) and (at_once or time.monotonic() >= self._due_s)
                waiting = dict(self._waiting) if is_due else {}
            if waiting:
                self._search(waiting)
            with self._lock:
                for run_id in waiting:
                    self._waiting.pop(run_id, None)
                if waiting and self._waiting:  # what came meanwhile
                    self._due_s = time.monotonic() + DELAY_S
                free = [
                    run_id for run_id in self._delivered if not (run_id in self._waiting or self._is_in_use(run_id))
                ]
                done = [self._delivered.pop(run_id) for run_id in free]
            for run in done:
                self._remove(run)
        if waiting and not at_once:
            self._rested()

    def _search(self, runs: Mapping[str, Run]) -> None:
        at, pids = datetime.now(timezone.utc), identity.all_pids()
        carriers = identity.carriers(pids, frozenset(runs))
        logger.debug("Looked at {} processes for those of {} ended runs: {} found", len(pids), len(runs), len(carriers))
        for run_id, run in runs.items():
            left = clear_remains(run)
            if self._is_in_use(run_id):
                continue  # it was started again, and the end of that start covers the processes of both
            mine = (survivor(pid) for pid, carried in carriers if carried == run_id)
            found = tuple({(one.pid, one.start_ticks): one for one in (*mine, *left) if one is not None}.values())
            survivors = end_tree(run_id, runner=None, session=None).survivors if found else ()
            survivors = tuple({(one.pid, one.start_ticks): one for one in (*survivors, *left)}.values())
            self._searched(run, Searched(at=at, looked_at=len(pids), found=found, survivors=survivors))

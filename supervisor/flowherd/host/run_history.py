"""What happened to one run on this host, and what it used: kept for the account of its end.

Most of it is in memory. Once a minute at most, and ever more rarely for a long run, it is written into the run's
directory without a flush, so that the next agent goes on with it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

from flowherd.host.curve import Curve
from flowherd.host.processes.process_list import list_processes
from flowherd.host.processes.process_tree import ProcessTree
from flowherd.story.account import MOST_PROCESSES, Account, RunEvent, account_as_json, read_account
from flowherd.story.live import ProcessFigures, Sample
from flowherd_runner.contract import files

#: Least time between two points of the curve, seconds; it grows with the length of the run.
_STEP_S = 1.0
#: Least time between two writes, seconds, and as a share of the time since the run is watched.
_WRITE_S, _WRITE_SHARE = 60.0, 0.05
#: Time between two looks at the processes of a run one by one, seconds.
_LIST_S = 10.0
#: How long after its start the first of them is, seconds: most runs have started their processes by then.
_FIRST_LIST_S = 2.0


class HistoryOnHost:
    """The history of the run in `directory`. `look` is for the watcher's thread, everything else for any."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._events: tuple[RunEvent, ...] = ()
        self._curve = Curve(_STEP_S)
        self._processes: tuple[ProcessFigures, ...] = ()
        self._processes_at: float | None = None
        self._listed_tree: ProcessTree | None = None
        self._since_s = time.monotonic()
        self._next_list_s = self._since_s + _FIRST_LIST_S
        #: When it is to be written down next (monotonic); 0 for at once.
        self.next_write_s = self._since_s + _WRITE_S
        self._lock = threading.Lock()

    def adopt(self) -> None:
        """Go on with what an earlier agent has written down, if it can be read."""
        try:
            found = read_account(files.read_json(self._directory, files.ACCOUNT_FILE))
        except (OSError, ValueError):
            return
        if found is not None:
            self._events = found.events
            self._curve.restore(found.samples)
            self._processes, self._processes_at = found.processes, found.processes_at_s

    def note(self, what: str, detail: str = "", at: float | None = None) -> None:
        """Add an event, which happened now or at `at` (seconds since the epoch)."""
        event = RunEvent(at_s=time.time() if at is None else at, what=what, detail=detail)
        with self._lock:
            self._events = (*self._events, event)
            self.next_write_s = 0.0

    def has(self, what: str) -> bool:
        """Return whether there is such an event."""
        return any(event.what == what for event in self._events)

    def look(self, tree: ProcessTree) -> None:
        """Take what the run uses, and every ten seconds its processes one by one, unless none has run since."""
        now_s = time.monotonic()
        self._curve.add(time.time(), tree.usage.memory_bytes, tree.usage.cpu_time_s)
        if now_s >= self._next_list_s and tree is not self._listed_tree:
            self.list_processes(tree)

    def list_processes(self, tree: ProcessTree) -> None:
        """Take the processes of the run one by one, because it may be about to end."""
        self._listed_tree, self._next_list_s = tree, time.monotonic() + _LIST_S
        found = list_processes(replace(tree, members=tree.members[:MOST_PROCESSES]))
        if found:
            self._processes, self._processes_at = found, time.time()

    @property
    def events(self) -> tuple[RunEvent, ...]:
        """What happened, in order."""
        return self._events

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The curve until now."""
        return self._curve.samples()

    def account(self, known: Account = Account()) -> Account:
        """Return `known` with the history: events in the order of their times, curve, and the last processes.

        An event that is in both is that of `known`: an earlier agent may have written it down.
        """
        kinds = {event.what for event in known.events}
        own = (event for event in self._events if event.what not in kinds)
        events = sorted((*own, *known.events), key=lambda event: event.at_s)
        return replace(
            known,
            events=tuple(events),
            samples=self.samples,
            processes=self._processes,
            processes_at_s=self._processes_at,
        )

    def store(self) -> None:
        """Write the history into the run's directory; what the disk refuses is tried again later."""
        now_s = time.monotonic()
        self.next_write_s = now_s + max(_WRITE_S, _WRITE_SHARE * (now_s - self._since_s))
        write_account(self._directory, self.account())


def write_account(directory: str, account: Account) -> None:
    """Write an account into a run's directory, unsynced; does nothing if the disk refuses it."""
    try:
        files.write_json(directory, files.ACCOUNT_FILE, account_as_json(account), sync=False)
    except OSError:
        return

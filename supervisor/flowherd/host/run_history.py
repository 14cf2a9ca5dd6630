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
from flowherd.host.processes.process_tree import ProcessTree
from flowherd.story.account import Account, RunEvent, account_as_json, read_account
from flowherd.story.live import Sample
from flowherd_runner.contract import files

#: Least time between two points of the curve, seconds; it grows with the length of the run.
_STEP_S = 1.0
#: Least time between two writes, seconds, and as a share of the time since the run is watched.
_WRITE_S, _WRITE_SHARE = 60.0, 0.05


class RunHistory:
    """The history of the run in `directory`. `look` is for the watcher's thread, everything else for any."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory)
        self._events: tuple[RunEvent, ...] = ()
        self._curve = Curve(_STEP_S)
        self._since_s = time.monotonic()
        self._next_write_s = self._since_s + _WRITE_S
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

    def note(self, what: str, detail: str = "", at: float | None = None) -> None:
        """Add an event, which happened now or at `at` (seconds since the epoch)."""
        event = RunEvent(at_s=time.time() if at is None else at, what=what, detail=detail)
        with self._lock:
            self._events = (*self._events, event)
            self._next_write_s = 0.0

    def has(self, what: str) -> bool:
        """Return whether there is such an event."""
        return any(event.what == what for event in self._events)

    def look(self, tree: ProcessTree) -> None:
        """Take what the run uses."""
        now_s = time.monotonic()
        self._curve.add(time.time(), tree.usage.memory_bytes, tree.usage.cpu_time_s)
        if now_s >= self._next_write_s:
            self.store()

    @property
    def events(self) -> tuple[RunEvent, ...]:
        """What happened, in order."""
        return self._events

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The curve until now."""
        return self._curve.samples()

    def account(self, known: Account = Account()) -> Account:
        """Return `known` with the history: events in the order of their times, and the curve.

        An event that is in both is that of `known`: an earlier agent may have written it down.
        """
        kinds = {event.what for event in known.events}
        own = (event for event in self._events if event.what not in kinds)
        events = sorted((*own, *known.events), key=lambda event: event.at_s)
        return replace(
            known,
            events=tuple(events),
            samples=self.samples,
        )

    def store(self) -> None:
        """Write the history into the run's directory; what the disk refuses is tried again later."""
        now_s = time.monotonic()
        self._next_write_s = now_s + max(_WRITE_S, _WRITE_SHARE * (now_s - self._since_s))
        write_account(self._directory, self.account())


def write_account(directory: str, account: Account) -> None:
    """Write an account into a run's directory, unsynced; does nothing if the disk refuses it."""
    try:
        files.write_json(directory, files.ACCOUNT_FILE, account_as_json(account), sync=False)
    except OSError:
        return

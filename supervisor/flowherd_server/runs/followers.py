"""Clients that follow the logs of flow runs: the thread that has stored new lines notifies them, after its commit.

Agents are told which runs are followed, and send the lines of these at once. Knows no sockets. Usable from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from flowherd_server.call import Effects


class Followers:
    """All followers. `on_change` is called with the ids of the runs that are followed, when these have changed."""

    def __init__(self, on_change: Callable[[list[str]], None]) -> None:
        self._on_change = on_change
        self._lock = threading.Lock()
        self._of_run: dict[str, list[Callable[[], None]]] = {}

    def add(self, run_id: str, notify: Callable[[], None]) -> None:
        """Have `notify` called after each commit of lines of a run; it never waits for the client."""
        with self._lock:
            is_first = run_id not in self._of_run
            self._of_run.setdefault(run_id, []).append(notify)
        if is_first:
            self._on_change(self.run_ids())

    def remove(self, run_id: str, notify: Callable[[], None]) -> None:
        """Remove a follower that is gone."""
        with self._lock:
            left = self._of_run[run_id]
            left.remove(notify)
            if not left:
                del self._of_run[run_id]
        if not left:
            self._on_change(self.run_ids())

    def run_ids(self) -> list[str]:
        """Return the ids of the runs that are followed."""
        with self._lock:
            return sorted(self._of_run)

    def announce(self, effects: Effects) -> None:
        """Tell the followers of these runs, whose lines are stored."""
        for run_id in effects.logged & self._of_run.keys():
            with self._lock:
                followers = list(self._of_run.get(run_id, ()))
            for notify in followers:
                notify()

"""Telling clients that wait for the end of a flow run, in the thread that has stored it, right after its commit.

Knows no sockets. Usable from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from flowherd.states import FINISHED
from flowherd_server.call import Effects
from flowherd_server.store.database import Database

_QUERY = "SELECT id, name, state, state_message FROM flow_run WHERE id = ?"

#: What a client gets of a run: id, name, state and message, as columns of flow_run in the dialect.
EndedRun = Mapping[str, Any]


class EndWait:
    """One client's wait for the end of one run. `notify` is called once at most, and never waits for the client."""

    def __init__(self, run_id: str, notify: Callable[[EndedRun | None], None]) -> None:
        self.run_id = run_id
        self.notify = notify


class RunEnds:
    """All waits for ends of runs."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waits: dict[str, list[EndWait]] = {}

    def wait(self, run_id: str, notify: Callable[[EndedRun | None], None]) -> EndWait | EndedRun | None:
        """Have `notify` called with the run when it ends, or with None when the server stops.

        Returns the wait; or if the run has ended already the run itself, and None if there is no such run.
        """
        one = EndWait(run_id, notify)
        with self._lock:
            self._waits.setdefault(run_id, []).append(one)
        try:
            found = self._row(run_id)  # only now, so that no end comes between the look and the wait
        except BaseException:
            self.cancel(one)
            raise
        if found is not None and found["state"] not in FINISHED:
            return one
        return found if self.cancel(one) else one

    def cancel(self, one: EndWait) -> bool:
        """End a wait. Returns False if `notify` was or is being called."""
        with self._lock:
            waits = self._waits.get(one.run_id, [])
            if one not in waits:
                return False
            waits.remove(one)
            if not waits:
                del self._waits[one.run_id]
            return True

    def announce(self, effects: Effects) -> None:
        """Tell those who wait for these ends, which are stored."""
        for run_id in effects.ended.keys() & self._waits.keys():
            with self._lock:
                waits = self._waits.pop(run_id, [])
            for one in waits:
                one.notify(effects.ended[run_id])

    def close(self) -> None:
        """End all waits."""
        with self._lock:
            waits = [one for of_run in self._waits.values() for one in of_run]
            self._waits.clear()
        for one in waits:
            one.notify(None)

    def _row(self, run_id: str) -> EndedRun | None:
        with self._database.reading() as connection:
            row = connection.exec_driver_sql(_QUERY, (run_id,)).mappings().first()
            return None if row is None else dict(row)

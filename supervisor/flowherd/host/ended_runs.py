"""What is left to do for runs that have ended: the search for their strays, what it found, and their directories.

All of it is off the way of the end's report: in the thread of the stray search.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace

from flowherd.host.retention import Retention
from flowherd.host.run import Run
from flowherd.host.store.survivors import SurvivorList
from flowherd.host.stray_search import Searched, StraySearch
from flowherd.values import LogLine
from flowherd_runner.contract import faults, files


class EndedRuns(StraySearch):
    """The ended runs of one host. `add_line` delivers a line of a run's log, also after its end."""

    def __init__(
        self,
        is_in_use: Callable[[str], bool],
        retention: Retention,
        survivors: SurvivorList,
        add_line: Callable[[LogLine], None],
        rested: Callable[[], None],
    ) -> None:
        super().__init__(is_in_use, self._note, self._remove_directory, rested)
        self._retention = retention
        self._survivors = survivors
        self._add_line = add_line

    def adopt(self, run: Run) -> None:
        """Take a delivered run whose search an earlier agent has not made."""
        run.owes_search = True
        self.ended(run)
        self.delivered(run)

    def _note(self, run: Run, result: Searched) -> None:
        run.owes_search = False
        if self._retention.keeps(sent_log=run.sends_logs):
            self._write_down(run, result)
        text = result.sentence()
        if not text:
            return
        run.log.warning("{}", text, action="search")
        self._add_line(run.line(text, logging.WARNING, "strays", result.at))
        if result.survivors:
            self._remember(run, result)

    def _write_down(self, run: Run, result: Searched) -> None:
        found = [{"pid": one.pid, "name": one.name} for one in result.found]
        value = {"at": result.at.isoformat(), "looked_at": result.looked_at, "found": found}
        try:
            # Unsynced: after a power cut there is no process left to be found.
            files.write_json(str(run.directory.path), files.SEARCH_FILE, value, sync=False)
        except OSError as error:
            run.log.warning("Cannot write down what the search for its processes found: {}", error)

    def _remember(self, run: Run, result: Searched) -> None:
        try:
            self._survivors.add([replace(one, flow_run_id=run.id) for one in result.survivors])
        except OSError as error:
            run.log.warning("Cannot write down which processes survive: {}", error)

    def _remove_directory(self, run: Run) -> None:
        faults.point("before-remove")
        if not self._retention.delivered(run.directory, sent_log=run.sends_logs) and not run.directory.is_abandoned():
            with contextlib.suppress(OSError):  # so that the next sweep tries again, and no agent reports its end again
                run.directory.write_outbox(run.pending, sync=False)

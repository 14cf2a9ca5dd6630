"""Shows the runs' output on the agent's own terminal while it is written; independent of what the backend has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TextIO

from flowherd.host.delivery.journal_reader import read_batch
from flowherd.host.run import Run
from flowherd.values import subflow_mark

_BATCH_BYTES = 256 * 1024


class Mirror:
    """Copies new lines of journals to a stream, each with the run's name before it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        #: Byte offset up to which a run's journal has been shown, by run id.
        self._offsets: dict[str, int] = {}

    def show_all(self, runs: Iterable[Run]) -> None:
        """Show what is new of all runs whose output may be shown."""
        for run in runs:
            if run.shows_output:
                with contextlib.suppress(OSError, ValueError):  # the delivery reports a journal that cannot be read
                    self._show(run)

    def forget(self, run_id: str) -> None:
        """Drop what is remembered of a run that is over."""
        self._offsets.pop(run_id, None)

    def _show(self, run: Run) -> None:
        """Show what is new; a journal seen for the first time is shown from where the backend's log ends."""
        offset = self._offsets[run.id] if run.id in self._offsets else run.directory.forwarded()
        while True:
            lines, end = read_batch(run.directory.journal, run.id, offset, _BATCH_BYTES)
            for line in lines:
                owner = f"{run.name} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else run.name
                self._out.write(f"{owner} | {line.message}\n")
            self._offsets[run.id] = end
            if end == offset:
                break
            offset = end
        self._out.flush()

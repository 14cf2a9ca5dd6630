"""Shows the runs' output on the agent's own terminal while it is written; independent of what the backend has."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from typing import TextIO

from flowherd.host.delivery.journal_reader import read_batch, without_replaced
from flowherd.host.run import Run
from flowherd.live_text import LiveText
from flowherd.values import LogLine, subflow_mark

_BATCH_BYTES = 256 * 1024


class Mirror:
    """Copies new lines of journals to a stream, each with the run's name before it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = LiveText(out)
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
            for line in without_replaced(lines):
                self._show_line(run, line)
            self._offsets[run.id] = end
            if end == offset:
                break
            offset = end
        self._out.flush()

    def _show_line(self, run: Run, line: LogLine) -> None:
        owner = f"{run.name} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else run.name
        label = f"{owner} | "
        if line.so_far:
            self._live.so_far((run.id, line.stream), label, line.message)
        else:
            write = functools.partial(self._out.write, f"{label}{line.message}\n")
            self._live.line((run.id, line.stream), line.message, write)

"""Shows the runs' output on the agent's own terminal while it is written; independent of what the backend has.

A reader that is slow or gone delays nothing: what it does not take stays in the journals until it does, and what it has
not taken when a run is over is counted as lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Protocol

from flowherd.host.delivery.journal_reader import read_batch, without_replaced
from flowherd.host.run import Run
from flowherd.shown_text import lines as shown_lines
from flowherd.shown_text import one_line
from flowherd.values import LogLine, subflow_mark

_BATCH_BYTES = 64 * 1024
#: How long to wait for a reader that is only slow, seconds.
_WAIT_S = 0.2


class Screen(Protocol):
    """Where the output is shown, as `line_writer.StandardStream` is."""

    def write_lines(self, text: str) -> None:
        """Show whole lines."""

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until lines can be shown without loss. Returns False after `timeout_s`."""

    def lose(self, count: int) -> None:
        """Count lines as lost."""


class Mirror:
    """Copies new lines of journals to a screen, each with the run's name before it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        #: Byte offset up to which a run's journal has been shown, by run id.
        self._offsets: dict[str, int] = {}
        #: Text of an unfinished line that has been shown, by run id and stream.
        self._so_far: dict[tuple[str, str], str] = {}

    def show_all(self, runs: Iterable[Run]) -> None:
        """Show what is new of all runs whose output may be shown."""
        for run in runs:
            self._show_or_skip(run)

    def forget(self, run: Run) -> None:
        """Show the last lines of a run that is over, and drop what is remembered of it."""
        self._show_or_skip(run)
        with contextlib.suppress(OSError, ValueError):
            self._count_lost(run)
        self._offsets.pop(run.id, None)
        self._so_far = {key: text for key, text in self._so_far.items() if key[0] != run.id}

    def _show_or_skip(self, run: Run) -> None:
        if run.shows_output:
            with contextlib.suppress(OSError, ValueError):  # the delivery reports a journal that cannot be read
                self._show(run)

    def _show(self, run: Run) -> None:
        """Show what is new; a journal seen for the first time is shown from where the backend's log ends."""
        offset = self._offsets.setdefault(run.id, run.directory.forwarded())
        while self._screen.wait_for_room(_WAIT_S):
            lines, end = read_batch(run.directory.journal, run.id, offset, _BATCH_BYTES)
            for line in without_replaced(lines):
                self._show_line(run, line)
            self._offsets[run.id] = end
            if end == offset:
                break
            offset = end

    def _show_line(self, run: Run, line: LogLine) -> None:
        """Show one line.

        Of a line that is not finished, what it begins with, and once a minute what has become of it: other runs write
        between, so a line cannot be updated here.
        """
        key = (run.id, line.stream)
        shown = self._so_far.get(key)
        if line.so_far and shown is not None and not line.standing:
            return
        if line.so_far:
            self._so_far[key] = line.message
        else:
            self._so_far.pop(key, None)
        if line.message != shown:
            owner = f"{run.name} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else run.name
            label = f"{one_line(owner)} | "
            shown = shown_lines(line.message).replace("\n", f"\n{label}")
            self._screen.write_lines(f"{label}{shown}\n")

    def _count_lost(self, run: Run) -> None:
        """Count the lines that were never shown."""
        offset = self._offsets.get(run.id)
        while offset is not None:
            lines, end = read_batch(run.directory.journal, run.id, offset, _BATCH_BYTES)
            lost = sum(not line.so_far for line in lines)
            if lost:
                self._screen.lose(lost)
            offset = end if end != offset else None

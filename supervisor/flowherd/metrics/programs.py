"""What is counted of the programs that supervisord watches beside an agent."""

from __future__ import annotations

from collections.abc import Iterable

from flowherd.metrics.tally import Tally
from flowherd.programs.entry import ENDS, LOST, RUNNING, ProgramEntry
from flowherd.shown_text import storable

#: Number of programs that have series of their own; what is counted for others is put together.
MOST_PROGRAMS = 200
OTHER_PROGRAMS = "(other programs)"
#: Label of an end whose cause is not known.
UNKNOWN = "unknown"
_LONGEST_LABEL = 200


class ProgramCounts:
    """Counts entries of the log of programs. For one thread."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._labels: dict[str, str] = {}

    def begin(self, entries: Iterable[ProgramEntry]) -> None:
        """Have the series of programs begin that the log knows already; what it has of them is not counted."""
        for entry in entries:
            if entry.program:
                self._show(entry)

    def add(self, entry: ProgramEntry) -> None:
        """Count one entry."""
        if entry.what == LOST:
            self._tally.add("flowherd_program_events_lost_total", by=entry.count)
            return
        if entry.what in ENDS:
            self._tally.add("flowherd_program_ends_total", self._label(entry.program), entry.reason or UNKNOWN)
        self._show(entry)

    def _show(self, entry: ProgramEntry) -> None:
        label = self._label(entry.program)
        if label != OTHER_PROGRAMS:
            self._tally.set("flowherd_program_up", float(entry.what == RUNNING), label)

    def _label(self, program: str) -> str:
        if program not in self._labels and len(self._labels) >= MOST_PROGRAMS:
            return OTHER_PROGRAMS
        return self._labels.setdefault(program, storable(program[:_LONGEST_LABEL]))

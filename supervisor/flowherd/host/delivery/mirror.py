"""Shows the runs' output on the agent's own terminal while it is written; independent of what the backend has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from flowherd.host.delivery.journal_reader import read_batch
from flowherd.values import subflow_mark

_BATCH_BYTES = 256 * 1024


class Mirror:
    """Copies new lines of journals to a stream, each with the run's name before it."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._offsets: dict[str, int] = {}

    def show(self, run_id: str, name: str, journal: Path, start: Callable[[], int]) -> None:
        """Show what is new; a journal seen for the first time is shown from the offset that `start` gives."""
        offset = self._offsets[run_id] if run_id in self._offsets else start()
        while True:
            lines, end = read_batch(journal, run_id, offset, _BATCH_BYTES)
            for line in lines:
                owner = f"{name} {subflow_mark(line.subflow_run_id)}" if line.subflow_run_id else name
                self._out.write(f"{owner} | {line.message}\n")
            self._offsets[run_id] = end
            if end == offset:
                break
            offset = end
        self._out.flush()

    def forget(self, run_id: str) -> None:
        """The run is over."""
        self._offsets.pop(run_id, None)

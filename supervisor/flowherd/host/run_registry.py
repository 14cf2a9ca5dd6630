"""Which runs live here: the one list that all threads of the agent share."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from flowherd.host.run import Run


class RunRegistry:
    """The runs of this agent by id. Iterating takes a snapshot, so it never meets a change under way."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Run]:
        with self._lock:
            return iter(list(self._runs.values()))

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    def get(self, run_id: str) -> Run | None:
        """The run with this id, if it is here."""
        return self._runs.get(run_id)

    def add(self, run: Run) -> None:
        """A run has come."""
        with self._lock:
            self._runs[run.id] = run

    def remove(self, run: Run) -> None:
        """A run has gone: its end is known to the backend."""
        with self._lock:
            self._runs.pop(run.id, None)

    def living(self) -> list[Run]:
        """Those that have not ended."""
        return [run for run in self if not run.ended]

"""The runs of this agent, in one collection that all its threads share."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

from flowherd.host.run import Run

#: Number of runs that are remembered after their end was delivered.
_MOST_GONE = 50


class RunRegistry:
    """The runs of this agent by id. Iteration is over a snapshot, so runs may be added and removed meanwhile."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}
        self._lock = threading.Lock()
        #: The last runs that were removed, newest first, for a person to look at.
        self.gone: deque[Run] = deque(maxlen=_MOST_GONE)

    def __iter__(self) -> Iterator[Run]:
        with self._lock:
            return iter(list(self._runs.values()))

    def __contains__(self, run_id: object) -> bool:
        return run_id in self._runs

    def get(self, run_id: str) -> Run | None:
        """Return the run with this id; None if this agent does not have it."""
        return self._runs.get(run_id)

    def add(self, run: Run) -> None:
        """Add a run."""
        with self._lock:
            self._runs[run.id] = run

    def remove(self, run: Run) -> None:
        """Remove a run whose end the backend knows."""
        with self._lock:
            if self._runs.pop(run.id, None) is not None and run.ended:
                self.gone.appendleft(run)

    def living(self) -> list[Run]:
        """Return the runs that have not ended."""
        return [run for run in self if not run.ended]

    def labels_of_living(self) -> dict[str, tuple[str, ...]]:
        """Return the labels of the runs that have not ended, by their ids."""
        return {run.id: run.spec.agent.labels for run in self.living()}

    def unsent_bytes(self, send_logs: bool) -> int:
        """Return how much of the journals the backend does not have yet, bytes; 0 if the agent sends no logs."""
        return sum(run.directory.unsent_bytes() for run in self if run.sends_logs) if send_logs else 0

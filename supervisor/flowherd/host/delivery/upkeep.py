"""Sends heartbeats for living runs, and ends the runs that the backend wants to end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import datetime, timezone

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.errors import BackendRefused, NotAuthorized
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.states import FINISHED, RunState
from flowherd_runner.contract import reasons

#: How long the process of a run that is finished at the backend may go on, seconds, unless the run was cancelled.
LINGER_S = 30.0


class Upkeep:
    """Heartbeats and cancellations of the runs of a registry; for one thread, except `look_for_cancellations`."""

    def __init__(
        self,
        registry: RunRegistry,
        connection: Connection,
        *,
        heartbeat_interval_s: float,
        cancellation_interval_s: float,
        linger_s: float,
    ) -> None:
        self._registry = registry
        self._connection = connection
        self._heartbeat_interval_s = heartbeat_interval_s
        self._cancellation_interval_s = cancellation_interval_s
        self._linger_s = linger_s
        self._next_heartbeat_s = 0.0
        self._next_cancellations_s = 0.0
        #: Whether the backend may have runs to end, whatever their age.
        self._is_asked = False
        #: Since when living runs are finished at the backend (monotonic), by run id.
        self._finished_since_s: dict[str, float] = {}

    def look_for_cancellations(self) -> None:
        """Make the next `check_cancellations` ask the backend; from any thread."""
        self._is_asked = True

    def forget(self, run: Run) -> None:
        """Drop what is remembered of a delivered run."""
        self._finished_since_s.pop(run.id, None)

    def next_heartbeat_s(self) -> float:
        """Return the seconds until heartbeats are due."""
        return max(0.0, self._next_heartbeat_s - time.monotonic())

    def send_heartbeats(self) -> None:
        """Send the heartbeats of all running runs if they are due, also in a pause that the backend has asked for.

        A server takes a run without heartbeats for dead. Raises BackendError.
        """
        if time.monotonic() < self._next_heartbeat_s:
            return
        self._next_heartbeat_s = time.monotonic() + self._heartbeat_interval_s
        running = [run.id for run in self._registry.living() if run.state is RunState.RUNNING]
        if not running:
            return
        try:
            self._connection.urgent.heartbeat(running)
        except NotAuthorized:
            raise
        except BackendRefused as error:  # must not keep logs and states from being delivered
            logger.warning("The backend does not take heartbeats: {}", error)

    def check_cancellations(self) -> None:
        """Ask the backend, if it is time, which living runs are to end, and end them. Raises BackendError.

        Runs that were started within the last interval are not a reason to ask: the backend has just handed them out.
        """
        living = {run.id: run for run in self._registry.living() if run.stop is None and not run.is_after_end}
        if not living or not (self._is_asked or self._is_due(living.values())):
            return
        # Set before the request: a wake that comes meanwhile must lead to another one.
        self._is_asked = False
        self._next_cancellations_s = time.monotonic() + self._cancellation_interval_s
        stored = self._connection.requests.stored_states(list(living))
        for run_id, held in stored.items():
            if run_id in living:
                self._follow(living[run_id], held.state)

    def _is_due(self, living: Iterable[Run]) -> bool:
        if time.monotonic() < self._next_cancellations_s:
            return False
        now = datetime.now(timezone.utc)
        ages_s = ((now - (run.started_at or run.deployed_at)).total_seconds() for run in living)
        return any(not 0 <= age_s < self._cancellation_interval_s for age_s in ages_s)

    def _follow(self, run: Run, held: RunState) -> None:
        """End the run if the backend wants it to end, or counts it as ended."""
        if held in (RunState.CANCELLING, RunState.CANCELLED):
            run.ask_to_stop(reasons.REASON_CANCELLED, "The flow run was cancelled.")
        elif held not in FINISHED:
            self._finished_since_s.pop(run.id, None)
        else:
            # Its own engine has reported that and is about to end; or a person has, and then nothing else will end it.
            since_s = self._finished_since_s.setdefault(run.id, time.monotonic())
            if not run.has_engine or time.monotonic() - since_s >= self._linger_s:
                text = f"The flow run is {held} at the backend, and its process was still alive."
                run.ask_to_stop(reasons.REASON_CANCELLED, text)

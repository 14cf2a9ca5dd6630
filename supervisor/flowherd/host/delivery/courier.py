"""Delivers what the runs owe the backend: logs in order, then states; and keeps up heartbeats and cancellations.

One thread does all of it, so a run's end cannot overtake its log. The journals and outboxes on disk are the spool:
while the backend is away, nothing is kept here but the time of the next try.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from flowherd.agent.backoff import retry_pause_s
from flowherd.agent.connection import Connection
from flowherd.config.settings import Settings
from flowherd.errors import BackendError, NotAuthorized
from flowherd.host.delivery.journal_delivery import JournalDelivery
from flowherd.host.delivery.log_delivery import LogDelivery
from flowherd.host.delivery.mirror import Mirror
from flowherd.host.delivery.older_copy import OlderCopy
from flowherd.host.delivery.report_delivery import ReportDelivery
from flowherd.host.delivery.upkeep import LINGER_S, Upkeep
from flowherd.host.retention import retention_s
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.store.kept_ends import KeptEnds
from flowherd.line_writer import STANDARD_OUTPUT
from flowherd.signals import Waker
from flowherd.values import LogLine

#: Longest pause while deliveries are held back, seconds; the mirror and heartbeats go on meanwhile.
_HELD_BACK_STEP_S = 1.0
#: How long what a run owes at its start may wait, seconds: a quick run's end then goes with it in one request.
_SOON_S = 0.03
#: Pause between two batches of logs while somebody waits for them, seconds, and at least in rounds.
_FOLLOWED_S = 0.02
_FOLLOWED_SHARE = 10
#: Pause after an unexpected error, seconds.
_ERROR_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class CourierSettings:
    """What to deliver, and intervals in seconds."""

    log_interval_s: float
    heartbeat_interval_s: float
    cancellation_interval_s: float
    #: How long the process of a run that is finished at the backend may go on.
    linger_s: float = LINGER_S
    #: Whether log lines go to the backend at all.
    send_logs: bool
    #: How long to keep the ends of runs, seconds, in case an older copy of the server's data is restored.
    keep_ends_s: float = 0.0
    #: Whether the directory of a run is removed as soon as its log and its end are delivered.
    removes_delivered: bool = False
    #: Whether the runs' output is shown on standard output.
    mirror: bool

    @classmethod
    def of(cls, settings: Settings, *, send_logs: bool, mirror: bool) -> CourierSettings:
        """Return the intervals of the settings."""
        cloud = settings.cloud
        return cls(
            keep_ends_s=settings.agent.keep_ends,
            log_interval_s=cloud.logging_heartbeat,
            heartbeat_interval_s=cloud.heartbeat_interval,
            cancellation_interval_s=cloud.check_cancellation_interval,
            send_logs=send_logs,
            removes_delivered=retention_s(settings.runs.keep, send_logs=send_logs) == 0,
            mirror=mirror,
        )


class Courier:
    """Delivers for the runs of a registry until closed.

    `on_delivered` is called in the courier's thread for each run whose end the backend knows. `is_in_use` says whether
    the host has a run. `state_dir` is where ended runs are remembered.
    """

    def __init__(
        self,
        registry: RunRegistry,
        connection: Connection,
        settings: CourierSettings,
        on_delivered: Callable[[Run], None],
        is_in_use: Callable[[str], bool],
        state_dir: Path,
    ) -> None:
        self._registry = registry
        self._connection = connection
        self._log_interval_s = settings.log_interval_s
        self._on_delivered = on_delivered
        self._mirror = Mirror(STANDARD_OUTPUT) if settings.mirror else None
        self._logs = LogDelivery(registry, connection, send_logs=settings.send_logs)
        self._journals = JournalDelivery(connection)
        self._kept = KeptEnds(state_dir, settings.keep_ends_s)
        self._older_copy = OlderCopy(registry, connection, self._kept, is_in_use, send_logs=settings.send_logs)
        self._removes_delivered = settings.removes_delivered
        self._reports = ReportDelivery(connection, self._logs.is_delivered, self._older_copy, self._is_removed)
        #: Raises ClaimLost for a run that has ended here, and that the backend hands out in an older state.
        self.refuse_ended = self._older_copy.refuse_ended
        self._upkeep = Upkeep(
            registry,
            connection,
            heartbeat_interval_s=settings.heartbeat_interval_s,
            cancellation_interval_s=settings.cancellation_interval_s,
            linger_s=settings.linger_s,
        )
        self._waker = Waker()
        #: Whether the current wait is to end at once.
        self._is_urgent = False
        #: When it is to end in any case (monotonic); None if only the usual pause counts.
        self._soon_s: float | None = None
        #: Whether the current wait may have no end, because there are no runs.
        self._is_idle = False
        self._closed = False
        self._failures = 0
        #: How long the last round took, seconds.
        self._round_s = 0.0
        #: Do not try again before this time (monotonic), after requests that failed.
        self._next_try_s = 0.0
        self._thread = threading.Thread(target=self._loop, name="courier", daemon=True)

    def use(self, keep_s: float | None, *, send_logs: bool, mirror: bool) -> None:
        """Use other values of runs.keep and agent.show_flow_logs from now on; from any thread."""
        self._removes_delivered = retention_s(keep_s, send_logs=send_logs) == 0
        if mirror != (self._mirror is not None):
            self._mirror = Mirror(STANDARD_OUTPUT) if mirror else None

    def start(self) -> None:
        """Begin."""
        self._connection.on_new_epoch = self._start_at_once
        self._thread.start()

    def _start_at_once(self) -> None:
        """Look at once at a server that may have been started again; it may wait for that."""
        self._next_try_s = 0.0
        self.wake()

    def wake(self) -> None:
        """Look for something to deliver now."""
        self._is_urgent = True
        self._waker.wake()

    def run_added(self) -> None:
        """Look after a run from now on."""
        if self._is_idle:
            self._waker.wake()

    def wake_soon(self) -> None:
        """Look for something to deliver in a moment, together with what comes until then."""
        if self._soon_s is None:
            self._soon_s = time.monotonic() + _SOON_S
            self._waker.wake()

    def look_for_cancellations(self) -> None:
        """Ask the backend now which runs are to end."""
        self._upkeep.look_for_cancellations()
        self.wake()

    def idle(self) -> bool:
        """Return whether everything is delivered."""
        return not any(run.ended or run.pending.reports for run in self._registry) and not self._logs.has_late_lines

    def add_late_line(self, line: LogLine) -> None:
        """Add a line of a run that may have been delivered already; lost if the agent dies."""
        self._logs.add_late_line(line)
        self.wake_soon()

    def close(self, timeout_s: float | None) -> bool:
        """Stop; what is not delivered yet stays on the disk. Returns False if a request is still under way then."""
        self._closed = True
        self.wake()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        self._kept.close()
        return True

    def _loop(self) -> None:
        more = False
        while not self._closed:
            if not more:
                self._wait()
            more = False
            if self._closed:
                return
            try:
                self._show_output()
                began_s = time.monotonic()
                more = self._round()
                self._round_s = time.monotonic() - began_s
            except BackendError as error:
                self._back_off(error)
            except Exception:  # one run's damage must not end the deliveries of all others
                logger.exception("Unexpected error while delivering; continuing")
                self._next_try_s = time.monotonic() + _ERROR_PAUSE_S

    def _wait(self) -> None:
        while not self._is_urgent:
            self._is_idle = True  # before the look at the runs: one that is added after it must end the wait
            pause_s, soon_s = self._pause_s(), self._soon_s
            self._is_idle = pause_s is None
            if soon_s is not None:
                until_s = max(0.0, soon_s - time.monotonic())
                pause_s = until_s if pause_s is None else min(pause_s, until_s)
            if not self._waker.wait(pause_s):
                break
        self._is_urgent, self._soon_s = False, None

    def _round(self) -> bool:
        """Deliver what there is; return whether there is more. While deliveries are held back, only send heartbeats."""
        if self._held_back_s() > 0:
            self._upkeep.send_heartbeats()
            return False
        more = self._older_copy.repair()
        unsent = self._logs.unsent()
        more = self._journals.deliver(unsent) or more
        more = self._deliver_new(unsent) or more
        for run in self._registry:
            self._deliver_reports(run)
        self._upkeep.send_heartbeats()
        self._upkeep.check_cancellations()
        self._failures = 0
        return more

    def _deliver_new(self, unsent: Mapping[Run, int]) -> bool:
        """Send what is new in all logs, with the states that may follow it; return whether there was anything."""
        request = self._logs.next_request(unsent, self._journals.goes_on)
        together = self._connection.delivers_together
        if together and self._reports.deliver_together(self._registry, self._logs, request):
            return bool(request)
        return self._logs.send(request)

    def _deliver_reports(self, run: Run) -> None:
        try:
            if not self._reports.deliver(run):
                return
        except BackendError:
            raise
        except Exception as error:  # a bad run fails alone
            run.delivering.failed(error)
            return
        self._logs.forget(run)
        self._journals.forget(run)
        self._upkeep.forget(run)
        if (mirror := self._mirror) is not None:
            mirror.forget(run)
        self._on_delivered(run)

    def _is_removed(self, run: Run) -> bool:
        return self._removes_delivered and run.sends_logs

    def _show_output(self) -> None:
        if (mirror := self._mirror) is not None:
            mirror.show_all(self._registry)

    def _held_back_s(self) -> float:
        return max(self._next_try_s - time.monotonic(), self._connection.pause_s())

    def _pause_s(self) -> float | None:
        if not self._logs.has_late_lines and not any(True for _ in self._registry):
            return None
        held_back_s = self._held_back_s()
        if held_back_s <= 0:
            return min(self._log_interval_s, self._followed_pause_s())
        return min(held_back_s, _HELD_BACK_STEP_S, self._upkeep.next_heartbeat_s())

    def _followed_pause_s(self) -> float:
        """Return the pause between two batches of logs, while somebody waits for lines of one of the runs."""
        followed = self._connection.requests.followed_runs
        if not followed or not any(run.id in followed for run in self._registry):
            return math.inf
        return max(_FOLLOWED_S, _FOLLOWED_SHARE * self._round_s)

    def _back_off(self, error: BackendError) -> None:
        self._failures += 1
        pause_s = retry_pause_s(self._failures, random.random())
        self._next_try_s = time.monotonic() + pause_s
        if self._failures == 1:
            level = "ERROR" if isinstance(error, NotAuthorized) else "WARNING"
            logger.log(level, "Cannot deliver to the backend; keeping everything on disk and trying again: {}", error)
        else:
            logger.debug("Still cannot deliver (try {}), next in {:.1f} s: {}", self._failures, pause_s, error)

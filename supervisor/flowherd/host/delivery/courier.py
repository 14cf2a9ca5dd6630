"""Brings everything that the runs have to tell to the backend: logs in order, then states, heartbeats; and learns
from it which runs are to be ended. One thread, so a run's lines and its end cannot overtake each other.

The journals and outboxes on disk are the spool: while the backend is away nothing is kept here but the pause.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from loguru import logger

from flowherd.agent.backoff import retry_pause_s
from flowherd.backends.protocol import Backend
from flowherd.engines.final_report import Outcome, outcome
from flowherd.errors import BackendError, BackendRefused, BackendUnavailable, NotAuthorized
from flowherd.host.delivery.journal_reader import read_batch
from flowherd.host.delivery.mirror import Mirror
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.signals import Waker
from flowherd.states import FINISHED, RunState
from flowherd.values import LogLine, StateReport
from flowherd_runner.contract import faults, reasons

#: Of one run's journal in one request, so that a flood of one does not hold up the others.
_BATCH_BYTES = 512 * 1024
#: So many refused lines of one run, and no more of it is sent.
_REFUSED_LINES = 3
#: All runs together in one request.
_REQUEST_BYTES = 2 * 1024 * 1024
#: A run whose journal cannot be read is reported without the rest of its log after so long.
_UNREADABLE_S = 60.0
#: A run that is finished at the backend gets so long to end its process too, unless it was cancelled.
LINGER_S = 30.0


@dataclass(frozen=True, kw_only=True)
class CourierSettings:
    """How often; seconds."""

    log_interval_s: float
    heartbeat_interval_s: float
    cancellation_interval_s: float
    linger_s: float = LINGER_S
    #: False: write no line of log to the backend at all.
    send_logs: bool
    mirror: bool


@dataclass(frozen=True, kw_only=True)
class _Parcel:
    """What one run has for one request: the agent's own lines, and the journal from `start` to `end`."""

    run: Run
    notes: list[LogLine]
    lines: list[LogLine]
    start: int
    end: int


def _pack(run: Run, max_bytes: int) -> _Parcel:
    start = run.directory.forwarded()
    if not run.sends_logs:
        return _Parcel(run=run, notes=run.notes(), lines=[], start=start, end=start)
    try:
        lines, end = read_batch(run.directory.journal, run.id, start, max_bytes, run.attempt)
        run.delivering.recovered()
    except (OSError, ValueError) as error:  # of this run alone; it is tried again, and its end is told without
        run.delivering.failed(error)
        lines, end = [], start
    return _Parcel(run=run, notes=run.notes(), lines=lines, start=start, end=end)


class Courier:
    """Delivers for a roster until closed.

    `on_delivered` is called in its thread for each run whose end the backend knows; `on_contact` after every
    answer of the backend; `on_refused` when it does not accept the token.
    """

    def __init__(
        self,
        registry: RunRegistry,
        backend: Backend,
        settings: CourierSettings,
        on_delivered: Callable[[Run], None],
        on_contact: Callable[[], None],
        on_refused: Callable[[NotAuthorized], None],
    ) -> None:
        self._registry = registry
        self._backend = backend
        self._settings = settings
        self._on_delivered = on_delivered
        self._on_contact = on_contact
        self._on_refused = on_refused
        self._mirror = Mirror(sys.stdout) if settings.mirror else None
        #: Lines that the backend refused, by run.
        self._refused: Counter[str] = Counter()
        self._waker = Waker()
        self._closed = False
        self._failures = 0
        #: Living runs that are finished at the backend, since when.
        self._finished_since_s: dict[str, float] = {}
        self._unreadable_since_s: dict[str, float] = {}
        self._not_before_s = 0.0
        self._next_heartbeat_s = 0.0
        self._next_cancellations_s = 0.0
        self._thread = threading.Thread(target=self._loop, name="courier", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something to tell."""
        self._waker.wake()

    def look_for_cancellations(self) -> None:
        """The backend has something to say; ask it at once."""
        self._next_cancellations_s = 0.0
        self._waker.wake()

    def idle(self) -> bool:
        """Whether everything that there is to tell was told."""
        return not any(run.ended or run.pending.reports for run in self._registry)

    def close(self) -> None:
        """Stop; what is not told yet stays on the disk."""
        self._closed = True
        self._waker.wake()
        self._thread.join()

    def _loop(self) -> None:
        more = False
        while not self._closed:
            if not more:
                self._waker.wait(self._pause_s())
            more = False
            if self._closed or time.monotonic() < self._not_before_s:
                self._mirror_all()
                continue
            try:
                more = self._round()
                self._failures = 0
            except BackendError as error:
                self._hold_off(error)
            except Exception:  # one run's damage must not end the deliveries of all others
                logger.exception("The courier stumbled; it goes on")
                self._not_before_s = time.monotonic() + 1.0

    def _pause_s(self) -> float | None:
        if not any(True for _ in self._registry):
            return None
        hold_off_s = self._not_before_s - time.monotonic()
        return max(self._settings.log_interval_s, 0.0) if hold_off_s <= 0 else min(hold_off_s, 1.0)

    def _hold_off(self, error: BackendError) -> None:
        self._failures += 1
        wish_s = error.retry_after_s if isinstance(error, BackendUnavailable) else None
        pause_s = retry_pause_s(self._failures, random.random(), wish_s)
        self._not_before_s = time.monotonic() + pause_s
        if isinstance(error, NotAuthorized):
            self._on_refused(error)
        if self._failures == 1:
            level = "ERROR" if isinstance(error, NotAuthorized) else "WARNING"
            logger.log(level, "Cannot deliver to the backend, keeping all on disk and trying on: {}", error)
        else:
            logger.debug("Still cannot deliver (try {}), next in {:.1f} s: {}", self._failures, pause_s, error)

    # -- one round

    def _round(self) -> bool:
        self._mirror_all()
        more = self._deliver_logs()
        for run in self._registry:
            self._deliver_guarded(run)
        self._heartbeat()
        self._cancellations()
        return more

    def _mirror_all(self) -> None:
        if self._mirror is not None:
            for run in filter(lambda run: run.shows_output, self._registry):
                with contextlib.suppress(OSError, ValueError):  # the delivery tells of a journal that cannot be read
                    self._mirror.show(run.id, run.name, run.directory.journal, run.directory.forwarded)

    def _deliver_logs(self) -> bool:
        """Send one request with what is new in all journals; whether there is more."""
        if not self._settings.send_logs:
            return False
        parcels: list[_Parcel] = []
        room = _REQUEST_BYTES
        for run in self._registry:
            parcel = _pack(run, min(room, _BATCH_BYTES))
            room -= parcel.end - parcel.start
            if parcel.notes or parcel.end > parcel.start:
                parcels.append(parcel)
            if room <= 0:
                break
        if parcels:
            faults.point("before-write-logs")
            self._write([line for parcel in parcels for line in (*parcel.notes, *parcel.lines)])
            faults.point("before-forwarded")
        for parcel in parcels:
            parcel.run.forget_notes(len(parcel.notes))
            parcel.run.directory.set_forwarded(parcel.end)
            faults.point("after-forwarded")
        return bool(parcels)

    def _write(self, lines: list[LogLine]) -> None:
        """Write all lines; those that the backend will never take are left out, the others are not.

        After a few such lines of one run the rest of its log is left out too: most likely the run was deleted there.
        """
        lines = [line for line in lines if self._refused[line.flow_run_id] < _REFUSED_LINES]
        if not lines:
            return
        try:
            self._backend.write_logs(lines)
            self._on_contact()
        except NotAuthorized:
            raise
        except BackendRefused as error:
            if len(lines) == 1:
                run_id = lines[0].flow_run_id
                self._refused[run_id] += 1
                logger.bind(run_id=run_id).warning("The backend does not take a log line: {}", error)
                return
            middle = len(lines) // 2
            self._write(lines[:middle])
            self._write(lines[middle:])

    def _deliver_guarded(self, run: Run) -> None:
        try:
            self._deliver_reports(run)
        except BackendError:
            raise
        except Exception as error:  # a bad run fails alone
            run.delivering.failed(error)

    def _deliver_reports(self, run: Run) -> None:
        for report in run.pending.reports:
            if report.state in FINISHED and not self._log_is_delivered(run):
                return
            kind = "end" if report.state in FINISHED else "start"
            faults.point(f"before-report-{kind}")
            told = self._outcome(report)
            if told.report is not None:
                self._report(run, told.report)
            faults.point(f"after-report-{kind}")
            run.acknowledge(report, told.state if report.of_process else None)
            if report.of_process:
                run.log.info("The flow run is {}", told.state, action="report", told=told.report is not None)
        if run.delivered:
            self._refused.pop(run.id, None)
            self._finished_since_s.pop(run.id, None)
            faults.point("before-remove")
            if self._mirror is not None:
                self._mirror.forget(run.id)
            self._on_delivered(run)

    def _outcome(self, report: StateReport) -> Outcome:
        """What is to be told: the report itself, or for a run with an engine of its own what follows from it."""
        if not report.of_process:
            return Outcome(report=report, state=report.state)
        standing = self._backend.run_at_backend(report.flow_run_id)
        self._on_contact()
        return outcome(report, standing)

    def _log_is_delivered(self, run: Run) -> bool:
        if not (self._settings.send_logs and run.sends_logs):
            return True
        try:
            batch, end = read_batch(run.directory.journal, run.id, run.directory.forwarded(), 1)
        except (OSError, ValueError) as error:
            run.delivering.failed(error)
            since_s = self._unreadable_since_s.setdefault(run.id, time.monotonic())
            return time.monotonic() - since_s > _UNREADABLE_S
        self._unreadable_since_s.pop(run.id, None)
        return not batch and end <= run.directory.forwarded()

    def _report(self, run: Run, report: StateReport) -> None:
        try:
            self._backend.report(report)
            self._on_contact()
        except NotAuthorized:
            raise
        except BackendRefused as error:
            # The backend has moved on: cancelled by a person, or given to another. Its word stands.
            run.log.info("The backend does not take the state {}: {}", report.state, error, action="report")

    def _heartbeat(self) -> None:
        if time.monotonic() < self._next_heartbeat_s:
            return
        living = [run.id for run in self._registry.living() if run.state is RunState.RUNNING]
        if living:
            self._send_heartbeat(living)
        self._next_heartbeat_s = time.monotonic() + self._settings.heartbeat_interval_s

    def _send_heartbeat(self, run_ids: list[str]) -> None:
        try:
            self._backend.heartbeat(run_ids)
        except NotAuthorized:
            raise
        except BackendRefused as error:  # a sign of life that nobody wants must not keep anything else from its way
            logger.warning("The backend does not take heartbeats: {}", error)
        self._on_contact()

    def _cancellations(self) -> None:
        living = {run.id: run for run in self._registry.living() if run.stop is None}
        if not living or time.monotonic() < self._next_cancellations_s:
            return
        # Before the question: a wake that comes meanwhile must lead to another one.
        self._next_cancellations_s = time.monotonic() + self._settings.cancellation_interval_s
        stored = self._backend.stored_states(list(living))
        self._on_contact()
        for run_id, held in stored.items():
            if run_id in living:
                self._follow(living[run_id], held.state)

    def _follow(self, run: Run, held: RunState) -> None:
        """End the run when the backend wants it to end, or counts it as ended."""
        if held in (RunState.CANCELLING, RunState.CANCELLED):
            run.ask_to_stop(reasons.REASON_CANCELLED, "The flow run was cancelled.")
        elif held not in FINISHED:
            self._finished_since_s.pop(run.id, None)
        else:
            # Its own engine has said so and is about to end; or somebody has, and then nothing will end it.
            since_s = self._finished_since_s.setdefault(run.id, time.monotonic())
            if not run.has_engine or time.monotonic() - since_s >= self._settings.linger_s:
                words = f"The flow run is {held} at the backend, and its process still lived."
                run.ask_to_stop(reasons.REASON_CANCELLED, words)

"""Sends the runs' journals to the backend as log lines, in order, and remembers how far it has come."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loguru import logger

from flowherd.agent.connection import Connection
from flowherd.errors import BackendRefused, NotAuthorized
from flowherd.host.delivery.journal_reader import read_batch
from flowherd.host.delivery.whole_lines import WholeLines
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.store.journal_end import journal_bytes
from flowherd.values import LogLine
from flowherd_runner.contract import faults

#: Largest part of one run's journal in one request, bytes, so that a flood from one run does not hold up the others.
_BATCH_BYTES = 512 * 1024
#: Largest part of all journals together in one request, bytes.
_REQUEST_BYTES = 2 * 1024 * 1024
#: After this many refused lines of one run, stop sending the run's log: most likely the run was deleted there.
_REFUSED_LINES = 3
#: After this time, seconds, a run whose journal cannot be read is reported without the rest of its log.
_UNREADABLE_S = 60.0


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """One run's part of a request: the agent's own lines, and the journal from `start` to `end` (byte offsets)."""

    run: Run
    notes: list[LogLine]
    lines: list[LogLine]
    start: int
    end: int
    #: Whether the run has ended and this is all that its journal still has.
    is_last: bool = False


@dataclass(frozen=True, kw_only=True)
class LogRequest:
    """What is new in all journals, as far as it fits into one request."""

    batches: Sequence[_Batch]
    late: Sequence[LogLine]

    def __bool__(self) -> bool:
        return bool(self.late) or any(batch.notes or batch.end > batch.start for batch in self.batches)

    def completes(self, run: Run) -> bool:
        """Return whether the backend has the whole log of the run, which has ended, once it has this."""
        return any(batch.run is run and batch.is_last for batch in self.batches)


def _never(_run: Run) -> bool:
    return False


class LogDelivery:
    """Delivers the logs of the runs of a registry; for one thread."""

    def __init__(self, registry: RunRegistry, connection: Connection, *, send_logs: bool) -> None:
        self._registry = registry
        self._connection = connection
        self._requests = connection.requests
        self._whole_lines = WholeLines()
        self._send_logs = send_logs
        #: Lines of runs that may have been delivered already.
        self._late_lines: list[LogLine] = []
        #: Number of lines that the backend refused, by run id.
        self._refused: Counter[str] = Counter()
        #: Since when a journal could not be read (monotonic), by run id.
        self._unreadable_since_s: dict[str, float] = {}

    def add_late_line(self, line: LogLine) -> None:
        """Add a line of a run, which may have been delivered already; lost if the agent dies. For any thread."""
        if self._send_logs:
            self._late_lines.append(line)

    @property
    def has_late_lines(self) -> bool:
        """Whether such lines wait for the backend."""
        return bool(self._late_lines)

    def unsent(self) -> dict[Run, int]:
        """Return how much of each journal the backend does not have, bytes, of the runs whose logs go there."""
        if not self._send_logs:
            return {}
        return {run: run.directory.unsent_bytes() for run in self._registry if run.sends_logs}

    def next_request(self, unsent: Mapping[Run, int], goes_as_bytes: Callable[[Run], bool] = _never) -> LogRequest:
        """Read what is new in all journals but those of which `goes_as_bytes` says that they go on as bytes.

        `unsent` is what this object's `unsent` has just returned.
        """
        if not self._send_logs:
            return LogRequest(batches=[], late=[])
        return LogRequest(batches=self._batches(unsent, goes_as_bytes), late=list(self._late_lines))

    def lines(self, request: LogRequest) -> list[LogLine]:
        """Return the lines of a request in the form that the backend takes, without those that it will never take."""
        return self._wanted(self._all(request))

    def send(self, request: LogRequest) -> bool:
        """Send a request. Returns whether there was anything to send. Raises BackendError."""
        if request:
            faults.point("before-write-logs")
            self._write(self._all(request))
            self.note_sent(request)
        return bool(request)

    def note_sent(self, request: LogRequest, is_removed: Callable[[Run], bool] = _never) -> None:
        """Remember how far the logs have come: the backend has what is in this request.

        `is_removed` says of which delivered runs nothing need be stored, because their directories are removed now.
        """
        self._whole_lines.commit()
        sent = len(request.late) + sum(len(batch.notes) + len(batch.lines) for batch in request.batches)
        self._connection.measures.tally.add("flowherd_lines_out_total", by=sent)
        del self._late_lines[: len(request.late)]
        faults.point("before-forwarded")
        for batch in request.batches:
            batch.run.forget_notes(len(batch.notes))
            if batch.end > batch.start:
                store = not (batch.run.delivered and is_removed(batch.run))
                batch.run.directory.set_forwarded(batch.end, store=store)
            faults.point("after-forwarded")

    def sends_nothing(self, run: Run) -> bool:
        """Return whether the run's output does not go to the backend at all."""
        return not (self._send_logs and run.sends_logs)

    def is_delivered(self, run: Run) -> bool:
        """Return whether the backend has the run's whole journal, or the rest of it cannot be read."""
        if self.sends_nothing(run):
            return True
        try:
            lines, end = read_batch(run.directory.journal, run.id, run.directory.forwarded(), 1)
        except (OSError, ValueError) as error:
            run.delivering.failed(error)
            since_s = self._unreadable_since_s.setdefault(run.id, time.monotonic())
            return time.monotonic() - since_s > _UNREADABLE_S
        self._unreadable_since_s.pop(run.id, None)
        return not lines and end <= run.directory.forwarded()

    def forget(self, run: Run) -> None:
        """Drop what is remembered of a delivered run."""
        self._refused.pop(run.id, None)
        self._whole_lines.forget(run.id)
        self._unreadable_since_s.pop(run.id, None)

    def _batches(self, unsent: Mapping[Run, int], goes_as_bytes: Callable[[Run], bool]) -> list[_Batch]:
        batches: list[_Batch] = []
        room = _REQUEST_BYTES
        for run in self._registry:
            # Most journals of many sleeping runs have nothing new. The last lines of a run may have come since.
            if unsent.get(run) == 0 and not run.ended and not run.notes():
                continue
            batch = _notes(run) if goes_as_bytes(run) else _read_batch(run, min(room, _BATCH_BYTES))
            room -= batch.end - batch.start
            if batch.notes or batch.end > batch.start or batch.is_last:
                batches.append(batch)
            if room <= 0:
                break
        return batches

    def _all(self, request: LogRequest) -> list[LogLine]:
        lines = [line for batch in request.batches for line in (*batch.notes, *batch.lines)]
        return self._accepted([*lines, *request.late])

    def _accepted(self, lines: list[LogLine]) -> list[LogLine]:
        """Return the lines in the form that the backend takes."""
        capabilities = self._connection.capabilities
        return lines if capabilities is not None and capabilities.keeps_text_so_far else self._whole_lines.of(lines)

    def _wanted(self, lines: list[LogLine]) -> list[LogLine]:
        return [line for line in lines if self._refused[line.flow_run_id] < _REFUSED_LINES]

    def _write(self, lines: list[LogLine]) -> None:
        """Write the lines, without those that the backend will never take."""
        lines = self._wanted(lines)
        if not lines:
            return
        try:
            self._requests.write_logs(lines)
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


def _notes(run: Run, *, is_last: bool = False) -> _Batch:
    start = run.directory.forwarded()
    return _Batch(run=run, notes=run.notes(), lines=[], start=start, end=start, is_last=is_last)


def _read_batch(run: Run, max_bytes: int) -> _Batch:
    start, has_ended = run.directory.forwarded(), run.ended
    if not run.sends_logs or run.directory.unsent_bytes() == 0:
        return _notes(run, is_last=has_ended)
    try:
        lines, end = read_batch(run.directory.journal, run.id, start, max_bytes, run.attempt)
        run.delivering.recovered()
    except (OSError, ValueError) as error:  # this run's alone; tried again, and its end is reported without the rest
        run.delivering.failed(error)
        lines, end = [], start
    is_last = has_ended and end == journal_bytes(run.directory.journal)
    return _Batch(run=run, notes=run.notes(), lines=lines, start=start, end=end, is_last=is_last)

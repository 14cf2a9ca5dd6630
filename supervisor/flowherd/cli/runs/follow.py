"""A run's log as it grows, until the run is finished: from the backend, or if that has no log, from the journal.

Each line appears once and in order. The state is read before the log, so a final state without more lines is the end.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_warning
from flowherd.cli.runs.local_runs import JournalTail, LocalRun
from flowherd.cli.runs.lookup import find_local_run
from flowherd.client.logs import LogView, RunLog
from flowherd.client.run_end import EndWait
from flowherd.client.runs import RunSummary, RunView
from flowherd.client.user_client import UserClient
from flowherd.config import LoadedSettings
from flowherd.errors import BackendUnavailable
from flowherd.values import LogLine

#: Pause between two looks at the backend.
POLL_S = 0.25
#: The same if there is no log to be shown and the server tells the end: it may be away, or the run deleted.
TOLD_POLL_S = 2.0
#: How long to wait for a backend that does not answer.
PATIENCE_S = 120.0
#: If the journal has lines and the backend has had none for this long, the log is not sent to the backend.
NO_CLOUD_LOGS_AFTER_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line to show, from the backend or from a journal."""

    at: datetime
    stream: str
    level: str
    logger: str
    message: str
    #: Id of the subflow's run, if a subflow logged the line; only journals have it.
    subflow_run_id: str | None = None
    #: Text so far of an unfinished line; the next one, or the next line, of the same stream replaces it.
    so_far: bool = False


Emit = Callable[[Iterable[Line]], None]


class BackendLog:
    """Reads a run's log at the backend; remembers how far it has read."""

    def __init__(self, client: UserClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._log: RunLog | None = None
        #: Whether the backend has had any line, or part of one.
        self.has_lines = False
        #: The text so far that was emitted and not finished yet, by stream.
        self._so_far: dict[str, str] = {}

    def emit_new(self, emit: Emit) -> None:
        """Emit all lines that have arrived since the last call, and text so far that has changed."""
        self._log = self._log or self._client.log(self._run_id)
        while lines := self._log.next_lines():
            for line in lines:
                self._so_far.pop(line.stream, None)
            self._emit(lines, emit)
        changed = [text for text in self._log.text_so_far() if self._so_far.get(text.stream) != text.message]
        self._so_far |= {text.stream: text.message for text in changed}
        self._emit(changed, emit)

    def _emit(self, lines: list[LogView], emit: Emit) -> None:
        if lines:
            self.has_lines = True
            emit(
                Line(at=x.at, stream=x.stream, level=x.level, logger=x.logger, message=x.message, so_far=x.so_far)
                for x in lines
            )


def follow(
    client: UserClient,
    run_id: str,
    emit: Emit | None,
    *,
    local: Callable[[], LocalRun | None],
    end: EndWait,
    deadline: float | None = None,
    on_silence: Callable[[BackendUnavailable], None] = lambda _error: None,
) -> RunSummary | None:
    """Emit a run's log until it is finished; return the run then, or None if `deadline` (monotonic) comes first.

    Without `emit` only the end is waited for. `end` is the wait for it: a server that tells it has stored the whole log
    before. `local` finds the run's directory on this host. When the backend does not answer, `on_silence` is called
    once and the backend is waited for. Raises BackendUnavailable if that takes too long, CommandError if the run was
    deleted.
    """
    log = BackendLog(client, run_id)
    tail: JournalTail | None = None
    no_lines_since: float | None = None
    silent_since: float | None = None
    if emit is not None:
        end.follow()
    # Right after the run's creation every question would take time from its start.
    first_s = POLL_S if emit is None and end.is_told else 0.0
    told = end.wait(first_s if deadline is None else min(first_s, max(0.0, deadline - time.monotonic())))
    run: RunSummary | None
    while True:
        try:
            run = told or (None if end.has_lines else _existing(client, run_id))
            if tail is None and emit is not None:
                log.emit_new(emit)
            silent_since = None
        except BackendUnavailable as error:
            run, silent_since = None, _still_patient(error, silent_since, on_silence)
        if emit is not None and tail is None and not log.has_lines:
            finished = run is not None and run.finished
            tail, no_lines_since = _journal_instead(local, no_lines_since, finished=finished)
        if emit is not None and tail is not None:
            emit_journal(tail, emit)
        if run is not None and run.finished:
            return run
        if deadline is not None and time.monotonic() >= deadline:
            return None
        is_told = end.is_told if emit is None else end.tells_lines and log.has_lines
        pause_s = TOLD_POLL_S if is_told and tail is None else POLL_S
        told = end.wait(pause_s if deadline is None else min(pause_s, max(0.0, deadline - time.monotonic())))


def follow_run(
    client: UserClient,
    loaded: LoadedSettings,
    run_id: str,
    emit: Emit | None,
    *,
    state_dir: str | None = None,
    end: EndWait | None = None,
    wait_s: float | None = None,
) -> RunSummary | None:
    """Do `follow` for a command: find the journal by the settings, warn on standard error about a silent backend."""
    with contextlib.closing(end or client.end_of(run_id)) as end:
        return follow(
            client,
            run_id,
            emit,
            local=lambda: find_local_run(run_id, loaded, state_dir),
            end=end,
            deadline=time.monotonic() + wait_s if wait_s is not None else None,
            on_silence=lambda error: print_warning(f"{error}; waiting for it"),
        )


def emit_journal(tail: JournalTail, emit: Emit) -> None:
    """Emit all lines that a journal has at present."""
    while lines := tail.next_lines():
        emit(from_journal(line) for line in lines)


def from_journal(line: LogLine) -> Line:
    """Return a journal's line as a line to show."""
    return Line(
        at=line.at,
        stream=line.stream,
        level=level_name(line.level),
        logger=line.logger,
        message=line.message,
        subflow_run_id=line.subflow_run_id,
        so_far=line.so_far,
    )


def level_name(level: int) -> str:
    """Return the name of the highest standard level that `level` reaches; the dialect has only these names."""
    for reached, name in ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO")):
        if level >= reached:
            return name
    return "DEBUG"


def _existing(client: UserClient, run_id: str) -> RunView:
    run = client.runs.get(run_id)
    if run is None:
        raise CommandError(f"the run {run_id} no longer exists; it was deleted or pruned")
    return run


def _still_patient(
    error: BackendUnavailable, since: float | None, on_silence: Callable[[BackendUnavailable], None]
) -> float:
    """Return since when the backend has been silent. Raises its error when that is too long."""
    now = time.monotonic()
    if since is None:
        on_silence(error)
        return now
    if now - since > PATIENCE_S:
        raise error
    return since


def _journal_instead(
    local: Callable[[], LocalRun | None], since: float | None, *, finished: bool
) -> tuple[JournalTail | None, float | None]:
    """Return the journal once it is clear that the backend does not get the log, and since when it has had no line."""
    run = local()
    if run is None or not (run.directory / "journal").exists():
        return None, None
    now = time.monotonic()
    if finished or (since is not None and now - since > NO_CLOUD_LOGS_AFTER_S):
        return JournalTail(run), since
    return None, since or now

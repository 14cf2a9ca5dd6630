"""A run's log as it grows, until the run is finished: from the backend, or if that has no log, from the journal.

Each line appears once and in order. The state is read before the log, so a final state without more lines is the end.
"""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from flowherd.cli.failures import CommandError
from flowherd.cli.printing import print_warning
from flowherd.cli.runs.local_runs import JournalTail, LocalRun
from flowherd.cli.runs.lookup import find_local_run
from flowherd.cli.runs.silence import Silence, stop_check
from flowherd.client.logs import LogView, RunLog
from flowherd.client.run_end import EndWait
from flowherd.client.runs import RunSummary, RunView
from flowherd.client.user_client import UserClient
from flowherd.client.wanted_lines import WantedLines
from flowherd.config import LoadedSettings
from flowherd.errors import BackendUnavailable
from flowherd.values import LogLine

#: Pause between two looks at the backend.
POLL_S = 0.25
#: The same if there is no log to be shown and the server tells the end: it may be away, or the run deleted.
TOLD_POLL_S = 2.0
#: If the journal has lines and the backend has had none for this long, the log is not sent to the backend.
NO_CLOUD_LOGS_AFTER_S = 3.0

_ALL = WantedLines()


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
    #: The run that the line is of, if several are shown.
    run: RunSummary | None = None


Emit = Callable[[Iterable[Line]], None]


class BackendLog:
    """Reads a run's log at the backend, or the `wanted` lines of it; remembers how far it has read.

    With `tail` it begins with that number of lines before its end. With `run` the lines name the run.
    """

    def __init__(
        self,
        client: UserClient,
        run_id: str,
        *,
        wanted: WantedLines = _ALL,
        tail: int | None = None,
        run: RunSummary | None = None,
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._wanted = wanted
        self._tail = tail
        self._run = run
        self._log: RunLog | None = None
        self._has_lines = False
        #: The text so far that was emitted and not finished yet, by stream.
        self._so_far: dict[str, str] = {}

    @property
    def has_lines(self) -> bool:
        """Whether the backend has had any line, wanted or not, or part of one."""
        if not self._has_lines and self._log is not None and not self._wanted.are_all:
            with contextlib.suppress(BackendUnavailable):
                self._has_lines = not self._log.is_empty()
        return self._has_lines

    def emit_new(self, emit: Emit) -> None:
        """Emit all lines that have arrived since the last call, and text so far that has changed."""
        for lines in self.new_batches():
            emit(lines)

    def new_batches(self) -> Iterator[list[Line]]:
        """Yield what `emit_new` emits, as it is read."""
        self._log = self._log or self._client.log(self._run_id, self._wanted)
        if self._tail is not None:
            lines, self._tail = self._log.last_lines(self._tail), None
            yield from self._batch(lines)
        while lines := self._log.next_lines():
            for line in lines:
                self._so_far.pop(line.stream, None)
            yield from self._batch(lines)
        changed = [text for text in self._log.text_so_far() if self._so_far.get(text.stream) != text.message]
        self._so_far |= {text.stream: text.message for text in changed}
        yield from self._batch(changed)

    def _batch(self, lines: list[LogView]) -> Iterator[list[Line]]:
        if lines:
            self._has_lines = True
            yield [
                Line(
                    at=x.at,
                    stream=x.stream,
                    level=x.level,
                    logger=x.logger,
                    message=x.message,
                    so_far=x.so_far,
                    run=self._run,
                )
                for x in lines
            ]


class GrowingLog:
    """A run's log at the backend, or the run's journal on this host once the backend clearly does not get the log.

    `local` finds the run's directory on this host.
    """

    def __init__(
        self,
        client: UserClient,
        run_id: str,
        local: Callable[[], LocalRun | None],
        *,
        wanted: WantedLines = _ALL,
        tail: int | None = None,
        run: RunSummary | None = None,
    ) -> None:
        self._backend = BackendLog(client, run_id, wanted=wanted, tail=tail, run=run)
        self._local = local
        self._wanted = wanted
        self._tail = tail
        self._run = run
        self._journal: JournalTail | None = None
        #: Since when the journal has had lines, and the backend none (monotonic).
        self._no_lines_since_s: float | None = None

    @property
    def is_at_backend(self) -> bool:
        """Whether the backend has had lines of it."""
        return self._journal is None and self._backend.has_lines

    def emit_new(self, emit: Emit) -> None:
        """Emit the new lines at the backend. Raises BackendUnavailable."""
        if self._journal is None:
            self._backend.emit_new(emit)

    def emit_from_journal(self, emit: Emit, *, finished: bool) -> None:
        """Emit the new lines of the journal, if the backend does not get the log."""
        if self._journal is None and not self._backend.has_lines:
            self._journal = self._opened(finished)
        if self._journal is not None:
            for lines in journal_batches(self._journal, wanted=self._wanted, tail=self._tail, run=self._run):
                emit(lines)
            self._tail = None

    def _opened(self, finished: bool) -> JournalTail | None:
        run = self._local()
        if run is None or not (run.directory / "journal").exists():
            self._no_lines_since_s = None
            return None
        now_s = time.monotonic()
        since_s, self._no_lines_since_s = self._no_lines_since_s, self._no_lines_since_s or now_s
        if finished or (since_s is not None and now_s - since_s > NO_CLOUD_LOGS_AFTER_S):
            return JournalTail(run)
        return None


def follow(
    client: UserClient,
    run_id: str,
    emit: Emit | None,
    *,
    log: GrowingLog,
    end: EndWait,
    deadline: float | None = None,
    silence: Silence,
) -> RunSummary | None:
    """Emit a run's log until it is finished; return the run then, or None if `deadline` (monotonic) comes first.

    Without `emit` only the end is waited for. `end` is the wait for it: a server that tells it has stored the whole log
    before. When the backend does not answer, it is waited for as `silence` has it. Raises BackendUnavailable or
    CommandError if that takes too long, CommandError if the run was deleted.
    """
    if emit is not None:
        end.follow()
    # Right after the run's creation every question would take time from its start.
    first_s = POLL_S if emit is None and end.is_told else 0.0
    told = end.wait(first_s if deadline is None else min(first_s, max(0.0, deadline - time.monotonic())))
    run: RunSummary | None
    while True:
        try:
            run = told or (None if end.has_lines else _existing(client, run_id))
            if emit is not None:
                log.emit_new(emit)
            silence.end()
        except BackendUnavailable as error:
            run = None
            silence.go_on(error)
        if emit is not None:
            log.emit_from_journal(emit, finished=run is not None and run.finished)
        if run is not None and run.finished:
            return run
        if deadline is not None and time.monotonic() >= deadline:
            return None
        is_told = end.is_told if emit is None else end.tells_lines and log.is_at_backend
        pause_s = TOLD_POLL_S if is_told else POLL_S
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
    wanted: WantedLines = _ALL,
    tail: int | None = None,
) -> RunSummary | None:
    """Do `follow` for a command: find the journal by the settings, warn on standard error about a silent backend."""
    with contextlib.closing(end or client.end_of(run_id)) as end:
        return follow(
            client,
            run_id,
            emit,
            log=GrowingLog(client, run_id, lambda: find_local_run(run_id, loaded, state_dir), wanted=wanted, tail=tail),
            end=end,
            deadline=time.monotonic() + wait_s if wait_s is not None else None,
            silence=silence_of(client, loaded),
        )


def silence_of(client: UserClient, loaded: LoadedSettings) -> Silence:
    """Return how a command waits for a server that does not answer: with a warning on standard error."""
    return Silence(
        lambda error: print_warning(f"{error}; waiting for it"), stop_check(loaded.paths.server_file, client.address)
    )


def journal_batches(
    journal: JournalTail, *, wanted: WantedLines = _ALL, tail: int | None = None, run: RunSummary | None = None
) -> Iterator[list[Line]]:
    """Yield all wanted lines that a journal has and that were not yielded before, or with `tail` the last of them."""
    last: collections.deque[Line] = collections.deque(maxlen=tail)
    while lines := journal.next_lines():
        shown = list(filter(wanted.include, (from_journal(line, run) for line in lines)))
        if tail is not None:
            last.extend(shown)
        elif shown:
            yield shown
    if last:
        yield list(last)


def from_journal(line: LogLine, run: RunSummary | None = None) -> Line:
    """Return a journal's line as a line to show."""
    return Line(
        at=line.at,
        stream=line.stream,
        level=level_name(line.level),
        logger=line.logger,
        message=line.message,
        subflow_run_id=line.subflow_run_id,
        so_far=line.so_far,
        run=run,
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

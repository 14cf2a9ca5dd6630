"""A run's log as it grows, until the run is finished: from the backend, or from the journal where it has none.

Each line once and in order. The state is read before the log, so a final state with no more lines is the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from flowherd.cli.failures import CommandError
from flowherd.cli.output import warn
from flowherd.cli.runs.local_runs import JournalTail, LocalRun
from flowherd.cli.runs.lookup import find_local_run
from flowherd.client.logs import RunLog
from flowherd.client.user import RunView, UserClient
from flowherd.config import LoadedSettings
from flowherd.errors import BackendUnavailable
from flowherd.values import LogLine

#: Between two looks.
POLL_S = 0.25
#: A backend that is away this long is given up.
PATIENCE_S = 120.0
#: A run whose journal has lines and whose backend has had none for so long is not logged to the backend.
NO_CLOUD_LOGS_AFTER_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line to show, wherever it came from."""

    at: datetime
    stream: str
    level: str
    logger: str
    message: str
    #: Of a line from a journal that a subflow has logged.
    subflow_run_id: str | None = None


Emit = Callable[[Iterable[Line]], None]


class BackendLog:
    """Shows a run's log at the backend onwards from where it was shown before."""

    def __init__(self, client: UserClient, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._log: RunLog | None = None
        #: Whether there ever was a line.
        self.seen = False

    def emit_new(self, emit: Emit) -> None:
        """Emit all lines since the last call."""
        self._log = self._log or self._client.log(self._run_id)
        while lines := self._log.next_lines():
            self.seen = True
            emit(Line(at=x.at, stream=x.stream, level=x.level, logger=x.logger, message=x.message) for x in lines)


def follow(
    client: UserClient,
    run_id: str,
    emit: Emit,
    *,
    local: Callable[[], LocalRun | None],
    deadline: float | None = None,
    away: Callable[[BackendUnavailable], None] = lambda _error: None,
) -> RunView | None:
    """Emit a run's log until it is finished; returns the run then, or None when `deadline` (monotonic) came first.

    `local` finds its directory on this host, if there is one. `away` is told once when the backend does not answer;
    it is waited for then. Raises BackendUnavailable when that takes too long, CommandError when the run is gone.
    """
    log = BackendLog(client, run_id)
    tail: JournalTail | None = None
    silent_since: float | None = None
    away_since: float | None = None
    while True:
        try:
            run = _seen(client, run_id)
            if tail is None:
                log.emit_new(emit)
            away_since = None
        except BackendUnavailable as error:
            run, away_since = None, _still_patient(error, away_since, away)
        if tail is None and not log.seen:
            tail, silent_since = _instead(local, silent_since, finished=run is not None and run.finished)
        if tail is not None:
            emit_journal(tail, emit)
        if run is not None and run.finished:
            return run
        if deadline is not None and time.monotonic() >= deadline:
            return None
        time.sleep(POLL_S if deadline is None else min(POLL_S, max(0.0, deadline - time.monotonic())))


def follow_run(
    client: UserClient,
    loaded: LoadedSettings,
    run_id: str,
    emit: Emit,
    *,
    state_dir: str | None = None,
    wait_s: float | None = None,
) -> RunView | None:
    """`follow` as the commands use it: the journal is found by the settings, trouble is told on standard error."""
    return follow(
        client,
        run_id,
        emit,
        local=lambda: find_local_run(run_id, loaded, state_dir),
        deadline=time.monotonic() + wait_s if wait_s is not None else None,
        away=lambda error: warn(f"{error}; waiting for it"),
    )


def emit_journal(tail: JournalTail, emit: Emit) -> None:
    """Emit all that a journal has now."""
    while lines := tail.next_lines():
        emit(from_journal(line) for line in lines)


def from_journal(line: LogLine) -> Line:
    """A journal's line as it is shown."""
    return Line(
        at=line.at,
        stream=line.stream,
        level=level_name(line.level),
        logger=line.logger,
        message=line.message,
        subflow_run_id=line.subflow_run_id,
    )


def level_name(level: int) -> str:
    """The name of the standard level that `level` reaches; the dialect knows no others."""
    for reached, name in ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO")):
        if level >= reached:
            return name
    return "DEBUG"


def _seen(client: UserClient, run_id: str) -> RunView:
    run = client.run(run_id)
    if run is None:
        raise CommandError(f"the run {run_id} is no longer there; it was deleted or pruned")
    return run


def _still_patient(error: BackendUnavailable, since: float | None, away: Callable[[BackendUnavailable], None]) -> float:
    now = time.monotonic()
    if since is None:
        away(error)
        return now
    if now - since > PATIENCE_S:
        raise error
    return since


def _instead(
    local: Callable[[], LocalRun | None], since: float | None, *, finished: bool
) -> tuple[JournalTail | None, float | None]:
    """The journal, once it is clear that the backend gets no log of this run."""
    run = local()
    if run is None or not (run.directory / "journal").exists():
        return None, None
    now = time.monotonic()
    if finished or (since is not None and now - since > NO_CLOUD_LOGS_AFTER_S):
        return JournalTail(run), since
    return None, since or now

"""supervisord's event listener: logs what becomes of the programs that supervisord watches.

    [eventlistener:flowherd-listener]
    command=/opt/flowherd/bin/python -m flowherd.supervisord.event_listener STATE_DIRECTORY
    events=PROCESS_STATE
    buffer_size=500

It answers each event at once and works on it in a thread of its own, so supervisord never waits for it. What it cannot
keep up with is dropped and counted. If it dies, supervisord buffers the events and starts it again; nothing else
depends on it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from flowherd.programs.program_log import DIRECTORY, ProgramLog
from flowherd.supervisord.agents_user import as_owner
from flowherd.supervisord.ended_program import EndedPrograms
from flowherd.supervisord.listener_state import ListenerState
from flowherd.supervisord.program_calls import ProgramCalls
from flowherd.supervisord.supervisord_events import Event, Inbox, Losses, read_event, ready, taken

#: Number of events that wait in this process at most.
MOST_WAITING = 1_000
#: Exit code for a wrong call. supervisord does not list it in `exitcodes`, so it says so.
_USAGE = 2


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Listen until supervisord ends. Returns the exit code."""
    if len(arguments) != 1 or not arguments[0].startswith("/"):
        print("usage: python -m flowherd.supervisord.event_listener STATE_DIRECTORY (absolute)", file=sys.stderr)
        return _USAGE
    if "SUPERVISOR_ENABLED" not in environ:
        print(
            "the event listener is started by supervisord, as command= of a section [eventlistener:flowherd-listener]; "
            "`flowherd install supervisord` prints one",
            file=sys.stderr,
        )
        return _USAGE
    requests = open(0, encoding="utf-8", errors="replace", newline="\n", closefd=False)  # noqa: SIM115
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever else writes to standard output must not disturb the protocol
    inbox = Inbox(MOST_WAITING)
    worker = _Worker(inbox, Path(arguments[0]) / DIRECTORY, environ)
    worker.start()
    try:
        _serve(requests, answers, inbox)
    except (ValueError, OSError) as error:
        print(f"cannot go on with supervisord's events: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        inbox.close()
        worker.join(1.0)
    return 0


def _serve(requests: IO[str], answers: IO[str], inbox: Inbox) -> None:
    with contextlib.suppress(BrokenPipeError):
        while True:
            ready(answers)
            event = read_event(requests)
            if event is None:
                return
            inbox.add(event)
            taken(answers)


class _Worker(threading.Thread):
    """Turns events into entries of the log."""

    def __init__(self, inbox: Inbox, directory: Path, environ: Mapping[str, str]) -> None:
        super().__init__(name="log of programs", daemon=True)
        self._inbox = inbox
        self._state_dir = directory.parent
        self._log = ProgramLog(directory)
        self._state = ListenerState(directory)
        self._calls = ProgramCalls(environ)
        self._programs = EndedPrograms(self._calls)
        #: Events that are not in the log and are not counted there yet.
        self._lost = 0
        self._failures: set[str] = set()

    def run(self) -> None:
        losses = Losses(self._state.last())
        self._guarded("look at the programs that run", self._programs.open)
        while (event := self._inbox.take()) is not None:
            self._lost += losses.before(event.pool_serial)
            if not self._guarded("log what becomes of programs", self._note, event):
                self._lost += 1
            self._guarded("keep how many events were seen", self._keep, losses.last)

    def _note(self, event: Event) -> None:
        entry = self._programs.take(event)
        with as_owner(self._state_dir):
            if self._lost:
                self._log.add(self._programs.lost(event.at, self._lost))
                self._lost = 0
            if entry is not None:
                self._log.add(replace(entry, at=round(entry.at, 3)))

    def _keep(self, last: int | None) -> None:
        with as_owner(self._state_dir):
            self._state.keep(last)

    def _guarded(self, what: str, work: Callable[..., None], *arguments: Any) -> bool:
        """Do something; report the first failure in a row, whatever it is. Returns whether it succeeded."""
        try:
            work(*arguments)
        except Exception as error:
            if what not in self._failures:
                print(f"cannot {what}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            self._failures.add(what)
            return False
        self._failures.discard(what)
        return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

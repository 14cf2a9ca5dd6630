"""From supervisord's events to entries of the log of programs."""

from __future__ import annotations

from dataclasses import replace

from flowherd.programs.entry import BACKOFF, ENDS, LOST, RUNNING, ProgramEntry
from flowherd.supervisord.logged_ends import find_end
from flowherd.supervisord.program_calls import ProgramCalls
from flowherd.supervisord.program_memory import ProgramMemory
from flowherd.supervisord.program_verdict import KnownEnd, OomKills, entry_of, what_of
from flowherd.supervisord.supervisord_events import Event

_STARTING = "PROCESS_STATE_STARTING"


class EndedPrograms:
    """Gathers what is known of each event, from supervisord, its log and the kernel. For one thread."""

    def __init__(self, calls: ProgramCalls) -> None:
        self._calls = calls
        self._memory = ProgramMemory()

    def open(self) -> None:
        """Look at the programs that run already."""
        for group, name, pid in self._calls.running():
            self._memory.running(name if group == name else f"{group}:{name}", pid)

    def take(self, event: Event) -> ProgramEntry | None:
        """Return the entry for an event; None if it has none."""
        if event.name == _STARTING:
            self._memory.starting(event.program)
        what = what_of(event.name)
        if what is None:
            return None
        if what == RUNNING and event.pid:
            self._memory.running(event.program, event.pid)
        end, oom = self._noted(event), OomKills()
        if what in ENDS:
            end, oom = self._with_log(event, end), self._memory.kills(event.program)
        return entry_of(what, event.program, event.at, event.expected, end, oom)

    def lost(self, at: float, count: int) -> ProgramEntry:
        """Return the entry for events that were lost."""
        text = f"{count} event{'' if count == 1 else 's'} of supervisord {'is' if count == 1 else 'are'} missing here."
        return ProgramEntry(at=at, program="", what=LOST, message=text, count=count)

    def _with_log(self, event: Event, end: KnownEnd) -> KnownEnd:
        if end.spawn_error or (end.exit_code is not None and end.exit_code >= 0):
            return end
        found = find_end(self._calls.log_tail(), event.process, end.pid, end.at or event.at)
        if found is None or (end.exit_code == -1 and found.exit_code != -1):
            return end
        return replace(
            end,
            exit_code=found.exit_code,
            signal=found.signal,
            source=f'supervisord\'s log: "{found.line}"',
            is_certain=found.is_certain,
            was_killed_by_supervisord=found.was_killed_by_supervisord,
        )

    def _noted(self, event: Event) -> KnownEnd:
        """Return what flowherd's plugin in supervisord has noted; without the plugin only what the event has."""
        noted = self._calls.noted_end(event.serial)
        try:
            if noted is None:
                return KnownEnd(pid=event.pid)
            pid, code = int(noted["pid"]), noted.get("exit_code")
            was_never_started = what_of(event.name) == BACKOFF and not pid
            return KnownEnd(
                pid=pid or event.pid,
                started=float(noted["started"]) or None,
                at=float(noted["at"]),
                exit_code=None if code is None else int(code),
                source="the exit status that supervisord has",
                spawn_error=str(noted["spawn_error"]) if was_never_started else "",
            )
        except (KeyError, TypeError, ValueError):  # the answer of another release
            return KnownEnd(pid=event.pid)

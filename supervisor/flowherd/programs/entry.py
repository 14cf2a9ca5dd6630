"""One entry of the log of programs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: What an entry can be about, beside the states of supervisord below: events that the listener has not seen.
LOST = "lost"
RUNNING, EXITED, STOPPED, BACKOFF, FATAL = "running", "exited", "stopped", "backoff", "fatal"
#: Entries about the end of a process.
ENDS = frozenset({EXITED, STOPPED, BACKOFF})
#: What makes a signal's name if it is not known which one it was.
UNKNOWN_SIGNAL = "unknown"


@dataclass(frozen=True, kw_only=True)
class ProgramEntry:
    """What happened to one program; or, with an empty `program`, how many events were lost."""

    #: When, seconds since the epoch.
    at: float
    #: Name as supervisorctl shows it: "name", or "group:name".
    program: str
    #: running, exited, stopped, backoff, fatal or lost.
    what: str
    #: One sentence for people.
    message: str
    pid: int | None = None
    #: When the process started, seconds since the epoch.
    started: float | None = None
    #: Whether the exit code is one of the program's `exitcodes`; of "exited" only.
    expected: bool | None = None
    exit_code: int | None = None
    #: Name of the signal that ended it, such as "SIGSEGV"; "unknown" if it was one, not known which.
    signal: str | None = None
    #: Why it ended (flowherd_runner.contract.reasons), how certain that is, and on what it rests.
    reason: str | None = None
    grade: str | None = None
    evidence: str = ""
    #: Number of lost events.
    count: int = 0

    @property
    def is_bad(self) -> bool:
        """Whether it is an end that nobody wanted."""
        return self.what in (BACKOFF, FATAL) or (self.what == EXITED and self.expected is False)

    def as_json(self) -> dict[str, Any]:
        """Return the fields that are not empty."""
        known = {name: value for name, value in asdict(self).items() if value is not None and value != ""}
        return known if self.count else {name: value for name, value in known.items() if name != "count"}


def read_entry(value: Any) -> ProgramEntry | None:
    """Return the entry in a line of the log; None if it is none. Fields of later releases are left out."""
    if not isinstance(value, Mapping):
        return None
    try:
        return ProgramEntry(
            at=float(value["at"]),
            program=str(value.get("program", "")),
            what=str(value["what"]),
            message=str(value.get("message", "")),
            pid=_number(value.get("pid")),
            started=None if value.get("started") is None else float(value["started"]),
            expected=None if value.get("expected") is None else bool(value["expected"]),
            exit_code=_number(value.get("exit_code")),
            signal=_text(value.get("signal")),
            reason=_text(value.get("reason")),
            grade=_text(value.get("grade")),
            evidence=_text(value.get("evidence")) or "",
            count=_number(value.get("count")) or 0,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

"""What `flowherd top` asks a server or the agents of this host, whichever answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from flowherd.cli.top.picture import Figures, Picture, RunRow
from flowherd.cli.top.terms import Filter


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """A line of a run's log."""

    at: datetime
    #: "stdout", "stderr", "flowherd", or the level of what came through logging.
    tag: str
    #: Number of its level, as logging has it.
    level: int
    message: str

    @property
    def is_error(self) -> bool:
        """Whether it tells of an error: on stderr, or at least of the level ERROR."""
        return self.tag == "stderr" or self.level >= 40


@dataclass(frozen=True, kw_only=True)
class ProcessLine:
    """A process of a run."""

    pid: int
    #: Number of its ancestors among the processes of the run.
    depth: int
    command: str
    cpu_time_s: float | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened to a run."""

    at: datetime | None
    what: str
    detail: str
    #: One of canvas.STYLES.
    style: str = ""


@dataclass(frozen=True, kw_only=True)
class RunPage:
    """What is known of one run beside its row and its log."""

    #: How it is or how it ended, in a sentence, and how certain the cause is.
    sentence: str
    grade: str = ""
    style: str = ""
    #: Its state and its end, if they are newer than those of its row; empty and None if not.
    state: str = ""
    ended: datetime | None = None
    details: Sequence[str] = ()
    events: Sequence[Event] = ()
    processes: Sequence[ProcessLine] = ()
    #: Why there are no processes, if there are none.
    no_processes: str = "The run has no processes."
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: Its curves.
    figures: Figures | None = None
    #: Further facts by name: labels, agent, command.
    facts: Mapping[str, str] = field(default_factory=dict)


class LogReader(Protocol):
    """Reads the log of one run."""

    def last(self, count: int) -> list[LogEntry]:
        """Return the last lines; called once, before `more`."""
        ...

    def more(self) -> list[LogEntry]:
        """Return what has come since."""
        ...


class Source(Protocol):
    """Who is asked. All methods are called from one thread, and raise FlowherdError if there is no answer."""

    #: What the head of the screen names.
    title: str

    def look(self, terms: Filter) -> Picture:
        """Return how things are."""
        ...

    def page(self, row: RunRow) -> RunPage:
        """Return what is known of a run."""
        ...

    def log(self, row: RunRow, level: str | None) -> LogReader:
        """Return a reader of a run's log; with `level` of the lines of that level and above."""
        ...

    def cancel(self, run_ids: Sequence[str]) -> str:
        """Cancel runs and return what came of it, in a sentence."""
        ...

    def retry(self, run_ids: Sequence[str]) -> str:
        """Start runs that have ended again, and return what came of it, in a sentence."""
        ...

    def ask_agent(self, name: str, action: str) -> str:
        """Have an agent "pause", "resume", "drain" or "restart", and return what came of it, in a sentence."""
        ...

    def close(self) -> None:
        """End the connection."""
        ...

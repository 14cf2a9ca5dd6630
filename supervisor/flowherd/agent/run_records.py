"""What the agent's own pages show of runs: asked of the platform, which has them in memory and in run directories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from flowherd.story.account import Account
from flowherd.story.live import RunFigures, Sample
from flowherd.story.timeline import TimelineEntry
from flowherd.values import LogLine


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A run of this host. What is not known is None or empty."""

    id: str
    name: str
    flow: str
    state: str
    message: str = ""
    #: When its process was started, and when its end was concluded.
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: One of flowherd_runner.contract.reasons and how certain it is, and what it rests on.
    reason: str = ""
    grade: str = ""
    evidence: str = ""
    #: What it uses now; None once it has ended.
    figures: RunFigures | None = None
    #: Its curve; while it goes, until now.
    samples: Sequence[Sample] = ()
    account: Account | None = None
    labels: Sequence[str] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: What it runs, in a line.
    target: str = ""


@dataclass(frozen=True)
class JournalPart:
    """Lines of a run's journal."""

    lines: Sequence[LogLine]
    #: Where the next lines begin, and the size of the journal, bytes.
    end: int
    size: int


class RunRecords(Protocol):
    """The runs of one host. Methods may be called from any thread, and read files."""

    def living(self) -> Sequence[KnownRun]:
        """Return the runs that have not ended, longest first."""
        ...

    def ended(self) -> Sequence[KnownRun]:
        """Return the runs that have ended and are still known, newest first."""
        ...

    def get(self, run_id: str) -> KnownRun | None:
        """Return one run, with its processes if it goes on; None if it is not known here."""
        ...

    def history(self, run_id: str) -> Sequence[TimelineEntry]:
        """Return what happened to a run on this host, ordered by time."""
        ...

    def journal(self, run_id: str, offset: int, max_bytes: int) -> JournalPart | None:
        """Return the lines of at most `max_bytes` of its journal from `offset` on; None if the journal is not there.

        A negative offset counts from the end. Raises OSError if the journal cannot be read.
        """
        ...


class NoRecords:
    """The records of a platform that keeps nothing."""

    def living(self) -> Sequence[KnownRun]:
        """Return nothing."""
        return ()

    def ended(self) -> Sequence[KnownRun]:
        """Return nothing."""
        return ()

    def get(self, run_id: str) -> KnownRun | None:
        """Return None."""
        return None

    def history(self, run_id: str) -> Sequence[TimelineEntry]:
        """Return nothing."""
        return ()

    def journal(self, run_id: str, offset: int, max_bytes: int) -> JournalPart | None:
        """Return None."""
        return None

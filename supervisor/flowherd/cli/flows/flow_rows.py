"""The columns of `flowherd flows`: how each flow's last runs went, and when it runs next."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowherd.cli.format_times import short_span, short_time, until
from flowherd.cli.tables import Column, Cut, state_style
from flowherd.isolation.levels import requested_isolation
from flowherd.schedules.in_words import schedule_in_words
from flowherd.states import ACTIVE, SUCCESSFUL, WAITING, RunState
from flowherd.story.order import BAD, LATE_AFTER

if TYPE_CHECKING:
    from flowherd.client.flow_list import FlowView

#: The mark of a run in the strip of a flow's last runs.
_GOOD, _BAD, _CANCELLED, _RUNNING, _WAITS = "\u2713", "\u2715", "\u2298", "\u25cf", "\u25cb"
#: In this order flows are listed by how they are.
_TROUBLE = ("failed", "late", "running", "")
_DIGITS = re.compile(r"(\d+)", re.ASCII)
#: A next run that is not further away is shown by how long it is until then, seconds.
_SOON_S = 6 * 3600.0


@dataclass(frozen=True)
class FlowRow:
    """A flow at a moment."""

    flow: FlowView
    now: datetime

    @property
    def ended(self) -> list[str]:
        """The states in which its newest runs ended, the newest first."""
        return [run.state for run in self.flow.recent if run.state not in ACTIVE | WAITING | {RunState.SUBMITTED}]

    @property
    def is_late(self) -> bool:
        """Whether its next run has been due for longer than an agent needs to take it."""
        waits_for_person = self.flow.next_state in (RunState.PAUSED, RunState.PENDING)
        due = self.flow.next_due
        return due is not None and self.now - due > LATE_AFTER and not waits_for_person

    @property
    def failures(self) -> int:
        """Number of its newest ended runs in a row that ended badly."""
        return next((n for n, state in enumerate(self.ended) if state not in BAD), len(self.ended))

    def trouble(self) -> str:
        """Return a word for how it is: failed, late, running, or empty."""
        if self.failures:
            return "failed"
        return "late" if self.is_late else "running" if self.flow.running else ""

    def last(self) -> str:
        """Return how its newest run ended, or that one is late or running."""
        kind = self.trouble()
        if kind == "failed":
            more = f" \N{MULTIPLICATION SIGN}{self.failures}" if self.failures > 1 else ""
            return f"{self.ended[0]}{more}"
        if kind:
            return kind.capitalize()
        return self.ended[0] if self.ended else ""

    def next(self) -> str:
        """Return when its next run begins."""
        due = self.flow.next_due
        if due is None:
            return "paused" if self.flow.schedule is not None and not self.flow.is_schedule_active else ""
        if self.is_late:
            return f"due {short_time(due, self.now)}"
        near = (due - self.now).total_seconds() < _SOON_S
        return until(due, self.now) if near else short_time(due, self.now)

    def strip(self) -> str:
        """Return a mark for each of its newest runs, the oldest first."""
        return "".join(_mark(run.state) for run in reversed(self.flow.recent))

    def when(self) -> str:
        """Return its schedule in words."""
        return schedule_in_words(self.flow.schedule)

    def order(self) -> tuple[int, Sequence[tuple[int, str]], str]:
        """Return the sort key: trouble first, then by name, step2 before step10."""
        return _TROUBLE.index(self.trouble()), _by_numbers(self.flow.name), self.flow.project


def _by_numbers(name: str) -> Sequence[tuple[int, str]]:
    """Return a sort key in which digits count as a number: a longer one is greater."""
    parts = [part.lstrip("0") if n % 2 else part for n, part in enumerate(_DIGITS.split(name))]
    return [*((len(part) if n % 2 else 0, part) for n, part in enumerate(parts)), (0, name)]


def _mark(state: str) -> str:
    if state in SUCCESSFUL:
        return _GOOD
    if state in BAD:
        return _BAD
    if state in ACTIVE or state == RunState.SUBMITTED:
        return _RUNNING
    return _WAITS if state in WAITING else _CANCELLED


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


COLUMNS: Sequence[Column[FlowRow]] = (
    Column("FLOW", lambda row: row.flow.name, cut=Cut.MIDDLE, least=10, best=28),
    Column("LAST", FlowRow.last, style=state_style),
    Column("NEXT", FlowRow.next, order=lambda row: _seconds(row.flow.next_due)),
    Column("RUNS", FlowRow.strip, rank=2),
    Column("SCHEDULE", FlowRow.when, cut=Cut.END, least=16, best=36, rank=3),
    Column(
        "USUALLY",
        lambda row: "" if row.flow.usual_s is None else short_span(row.flow.usual_s),
        rank=4,
        order=lambda row: row.flow.usual_s,
    ),
    Column("VERSION", lambda row: str(row.flow.version), rank=5, order=lambda row: row.flow.version),
    Column("PROJECT", lambda row: row.flow.project, cut=Cut.MIDDLE, least=7, best=16, rank=7),
    Column("LABELS", lambda row: " ".join(row.flow.labels), cut=Cut.MIDDLE, least=8, best=20, rank=6),
)


def _isolation(run_config: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return requested_isolation(run_config).as_json()
    except ValueError as error:
        return {"error": str(error)}


def json_fields(row: FlowRow) -> Mapping[str, Any]:
    """Return a flow as --json prints it."""
    flow = row.flow
    newest = flow.recent[0] if flow.recent else None
    return {
        "id": flow.id,
        "name": flow.name,
        "project": flow.project,
        "version": flow.version,
        "registered": flow.created,
        "last_state": newest.state if newest is not None else None,
        "last_start": newest.started if newest is not None else None,
        "failures_in_a_row": row.failures,
        "running": flow.running,
        "late": row.is_late,
        "next": flow.next_due,
        "schedule": row.when() or None,
        "paused": flow.schedule is not None and not flow.is_schedule_active,
        "usually_s": flow.usual_s,
        "isolation": _isolation(flow.run_config) or None,
        "labels": list(flow.labels),
        "runs": [run.state for run in flow.recent],
    }

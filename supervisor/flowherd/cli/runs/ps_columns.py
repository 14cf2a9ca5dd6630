"""The columns of `flowherd ps`, and the fields of its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowherd.cli.format_times import local_time, short_size, short_span, short_time, took, until
from flowherd.cli.tables import Column, Cut, state_style
from flowherd.story.order import Group, Line

if TYPE_CHECKING:
    from flowherd.client.run_list import Coming
    from flowherd.client.runs import RunView

#: Number of an id's first characters that a terminal shows.
SHORT_ID = 8
#: The message of every run that was only created, which says no more than its state.
_SCHEDULED = "Flow run scheduled."


@dataclass(frozen=True)
class PsRow:
    """A line of the list with what its cells need."""

    line: Line[RunView]
    now: datetime
    agent: str
    #: Why a run that is due has not started; empty if nothing is known.
    waits: str = ""
    coming: Coming | None = None
    #: The last line of its log while it runs; empty if that is not known.
    last_line: str = ""

    @property
    def run(self) -> RunView:
        """The run of the line."""
        return self.line.run

    def state(self) -> str:
        """Return the state in a word, with the number of failures in a row."""
        if self.line.group is Group.DUE:
            return "Late"
        if self.run.stuck:
            return "Stuck"
        return self.run.state + (f" \N{MULTIPLICATION SIGN}{self.line.count}" if self._is_streak() else "")

    def time(self) -> str:
        """Return what matters of a run's times: how long, since when due, when it ended, or when it begins."""
        run, group = self.run, self.line.group
        if group is Group.RUNNING:
            return "" if run.start_time is None else short_span((self.now - run.start_time).total_seconds())
        if group is Group.DUE:
            return f"due {short_time(run.due, self.now)}"
        if group is Group.NEXT:
            return "" if run.due is None else until(run.due, self.now)
        return short_time(run.end_time, self.now)

    def says(self) -> str:
        """Return why it waits or is stuck, what it wrote last, what follows it, or its message."""
        stuck = self.run.stuck[:1].upper() + self.run.stuck[1:]
        if self.waits or stuck or self.last_line:
            return self.waits or stuck or self.last_line
        if self.coming is None:
            return "" if self.run.message == _SCHEDULED else self.run.message or ""
        from flowherd.schedules.in_words import schedule_in_words

        more = self.coming.within_hour - 1
        words = schedule_in_words(self.coming.schedule) or "once"
        return f"{words}; {more} more within the hour" if more > 0 else words

    def memory(self) -> str:
        """Return what the processes of a running run use, and the limit: 410M, 11.2G/12G."""
        figures = self.run.figures
        if figures is None or figures.memory_bytes is None:
            return ""
        limit = figures.memory_limit_bytes
        return short_size(figures.memory_bytes) + (f"/{short_size(limit)}" if limit else "")

    def cpu(self) -> str:
        """Return how much of one processor a running run has used lately, percent."""
        share = None if self.run.figures is None else self.run.figures.cpu_share
        return "" if share is None else f"{100 * share:.0f}%"

    def late(self) -> str | None:
        """Return why a run that is due has not started; None if it is not late."""
        return (self.waits or "it is due and has not started") if self.line.group is Group.DUE else None

    def _is_streak(self) -> bool:
        return self.line.group is Group.FAILED and self.line.count > 1


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _took_s(row: PsRow) -> float | None:
    start = row.run.start_time
    return None if start is None else ((row.run.end_time or row.now) - start).total_seconds()


#: All columns, by which rows can be sorted and which --fields can name.
ALL: Sequence[Column[PsRow]] = (
    Column("ID", lambda row: row.run.id[:SHORT_ID], full=lambda row: row.run.id),
    Column("STATE", PsRow.state, full=lambda row: row.run.state, style=state_style),
    Column("FLOW", lambda row: row.run.flow, cut=Cut.MIDDLE, least=10, best=18),
    Column("NAME", lambda row: row.run.name, cut=Cut.MIDDLE, least=10, best=16, rank=5),
    Column("AGENT", lambda row: row.agent, cut=Cut.MIDDLE, least=7, best=14, rank=4),
    Column("TIME", PsRow.time, order=lambda row: _seconds(row.run.end_time or row.run.start_time or row.run.due)),
    Column("CPU", PsRow.cpu, rank=5, order=lambda row: row.run.figures.cpu_share if row.run.figures else None),
    Column("MEMORY", PsRow.memory, rank=3, order=lambda row: row.run.figures.memory_bytes if row.run.figures else None),
    Column("PID", lambda row: str(row.run.pid or ""), rank=6, order=lambda row: row.run.pid),
    Column(
        "START",
        lambda row: local_time(row.run.start_time or row.run.scheduled_start_time, row.now),
        rank=5,
        order=lambda row: _seconds(row.run.start_time or row.run.scheduled_start_time),
    ),
    Column("TOOK", lambda row: took(row.run.start_time, row.run.end_time), rank=5, order=_took_s),
    Column("LABELS", lambda row: " ".join(row.run.labels), cut=Cut.MIDDLE, rank=6),
    Column("GROUP", lambda row: row.line.group.value, rank=7),
    Column("SAYS", PsRow.says, cut=Cut.END, least=12, best=60, rank=2),
    Column("MESSAGE", lambda row: row.run.message or "", cut=Cut.END, least=12, best=60, rank=3),
)
#: Those of a terminal, and those of a pipe, whose first eight are the same since 0.1.0.
ON_TERMINAL = ("ID", "STATE", "FLOW", "NAME", "AGENT", "TIME", "CPU", "MEMORY", "SAYS")
IN_PIPE = ("ID", "NAME", "FLOW", "STATE", "AGENT", "PID", "START", "TOOK", "GROUP", "MESSAGE")

#: Those figures of a running run that --json has.
_FIGURES = ("memory_bytes", "peak_memory_bytes", "memory_limit_bytes", "cpu_time_s", "cpu_share", "processes")


def columns_titled(titles: Sequence[str]) -> list[Column[PsRow]]:
    """Return the columns with these titles, in this order."""
    by_title = {column.title: column for column in ALL}
    return [by_title[title] for title in titles]


def json_fields(row: PsRow) -> Mapping[str, Any]:
    """Return a run as --json prints it."""
    run, figures = row.run, row.run.figures
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow,
        "state": run.state,
        "group": row.line.group.value,
        "message": run.message,
        "stuck": run.stuck or None,
        "late": row.late(),
        "labels": list(run.labels),
        "agent": row.agent or run.agent_id,
        "pid": run.pid,
        "reason": run.reason,
        "parameters": dict(run.parameters),
        "scheduled_start_time": run.scheduled_start_time,
        "start_time": run.start_time,
        "end_time": run.end_time,
        **{name: None if figures is None else getattr(figures, name) for name in _FIGURES},
    }

"""The processes of a run as rows of a table: a tree, drawn with lines, with what each of them uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

#: Number of processes that are shown.
MOST_SHOWN = 60


class SeenProcess(Protocol):
    """A process of a run, as an agent reports it."""

    @property
    def pid(self) -> int: ...
    @property
    def parent(self) -> int | None: ...
    @property
    def command(self) -> str: ...
    @property
    def cpu_time_s(self) -> float | None: ...
    @property
    def memory_bytes(self) -> int | None: ...


@dataclass(frozen=True)
class ProcessRow:
    """One row of the table."""

    #: Lines that lead to it from its parent.
    lines: str
    process: SeenProcess


def process_rows(processes: Sequence[SeenProcess]) -> list[ProcessRow]:
    """Return the processes as a tree, children below their parents; those without a parent among them stand first."""
    by_pid = {process.pid: process for process in processes}
    children: dict[int, list[SeenProcess]] = {}
    roots: list[SeenProcess] = []
    for process in by_pid.values():
        if process.parent in by_pid and process.parent is not None and process.parent != process.pid:
            children.setdefault(process.parent, []).append(process)
        else:
            roots.append(process)
    rows: list[ProcessRow] = []
    # Whatever was sent: processes that are each other's parents are left out, and none is shown twice.
    todo = [("", "", root) for root in reversed(roots)]
    while todo and len(rows) < MOST_SHOWN:
        lines, below, process = todo.pop()
        rows.append(ProcessRow(lines, process))
        own = children.pop(process.pid, [])
        for number, child in enumerate(reversed(own)):
            is_last = number == 0
            todo.append((below + ("└─ " if is_last else "├─ "), below + ("   " if is_last else "│  "), child))
    return rows


def cpu_time(seconds: float | None) -> str:
    """Return a CPU time as tools of the kind of ps write it: 0:04, 26:50, 1:02:03; empty if it is not known."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

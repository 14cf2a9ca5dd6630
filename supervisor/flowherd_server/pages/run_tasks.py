"""The tasks of a run of Prefect's: each with its state, when it started and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.plain import plain
from flowherd_server.store.tables import TASK, TASK_RUN

#: Number of tasks that are shown, the first by their start.
MOST_TASKS = 200
_COUNT = f"SELECT count(*) FROM {TASK_RUN.name} WHERE flow_run_id = ?"


@dataclass(frozen=True, kw_only=True)
class TaskRow:
    """One task run."""

    name: str
    state: str
    message: str
    start: datetime | None
    #: How long it took, seconds; None if it has not ended.
    took_s: float | None


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """The task runs of one flow run, and how many there are."""

    rows: list[TaskRow]
    count: int


def tasks_of(connection: Connection, run_id: str) -> Tasks | None:
    """Return the task runs of a run; None if it has none."""
    count = plain(connection).execute(_COUNT, (run_id,)).fetchone()[0]
    if not count:
        return None
    columns = ("name", "map_index", "state", "state_message", "start_time", "end_time")
    query = select(*(TASK_RUN.c[name] for name in columns), TASK.c.name.label("task"), TASK.c.slug)
    query = query.join(TASK, TASK.c.id == TASK_RUN.c.task_id).where(TASK_RUN.c.flow_run_id == run_id)
    # Those that have not started come last.
    order = func.coalesce(TASK_RUN.c.start_time, 1 << 62), TASK_RUN.c.seq
    rows = connection.execute(query.order_by(*order).limit(MOST_TASKS)).mappings()
    return Tasks(rows=[_row(row) for row in rows], count=count)


def _row(row: Any) -> TaskRow:
    start, end = row["start_time"], row["end_time"]
    mapped = f"[{row['map_index']}]" if row["map_index"] >= 0 else ""
    return TaskRow(
        name=row["name"] or f"{row['task'] or row['slug']}{mapped}",
        state=row["state"],
        message=row["state_message"] or "",
        start=None if start is None else to_datetime(start),
        took_s=None if start is None or end is None else (end - start) / SECOND_US,
    )

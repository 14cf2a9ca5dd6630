"""What the story of a run is made of (flowherd/story/records.py), read from the tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, select

from flowherd.story.agent_report import read_agent_report
from flowherd.story.marks import marks
from flowherd.story.records import AgentView, NoticeView, RunRecord, StateView, WaitingTaskView
from flowherd_runner.contract.journal import STREAM_NOTICE
from flowherd_server.store.indexes import WAITS
from flowherd_server.store.microseconds import SECOND_US, to_datetime
from flowherd_server.store.plain import StoredRow, plain
from flowherd_server.store.tables import AGENT

#: flowherd's own lines are looked for among so many lines at the begin of a log, and at its end.
_FIRST, _LAST = 500, 2000
#: Maximum number of waiting tasks, and of agents, that are read.
_MOST = 500
#: Agents that were not heard of for longer than this are not among those that may take a run, seconds.
_AGENT_AGE_S = 24 * 3600

_STATES = "SELECT version, state, timestamp, message, serialized_state, created FROM run_state WHERE run = ? ORDER BY 1"
_NOTICES = (
    f"SELECT timestamp, message FROM log_line WHERE run = ? AND id BETWEEN ? AND ? AND stream = {STREAM_NOTICE} "
    "ORDER BY id"
)
_NEWER = f"SELECT 1 FROM log_line WHERE run = ? AND id > ? AND stream = {STREAM_NOTICE} LIMIT 1"
_TASKS = (
    "SELECT task.name, task_run.state, task_run.state_start_time FROM task_run JOIN task ON task.id = task_run.task_id "
    f"WHERE task_run.flow_run_id = ? AND task_run.{WAITS} ORDER BY task_run.state_start_time LIMIT {_MOST}"
)


def run_record(run: StoredRow, flow: str) -> RunRecord:
    """Return a row of flow_run, with the name of its flow, as a record."""
    return RunRecord(
        id=run["id"],
        name=run["name"],
        state=run["state"],
        message=run["state_message"],
        flow=flow,
        labels=tuple(run["labels"]),
        agent_id=run["agent_id"],
        created=to_datetime(run["created"]),
        scheduled_start_time=to_datetime(run["scheduled_start_time"]),
        state_start_time=_time(run["state_start_time"]),
        start_time=_time(run["start_time"]),
        end_time=_time(run["end_time"]),
        repeats=run["repeats"],
        created_by=run["created_by"],
    )


def states_of(connection: Connection, run: int) -> list[StateView]:
    """Return the states that the run with this number (`seq`) was in, oldest first."""
    found = []
    for version, state, at, message, serialized, created in plain(connection).execute(_STATES, (run,)):
        noted = marks({"serialized_state": json.loads(serialized)})
        view = StateView(
            version=version,
            state=state,
            at=to_datetime(at),
            message=message,
            pid=noted.pid,
            reason=noted.reason,
            grade=noted.grade,
            phases=noted.phases,
            by=noted.by,
            stored=to_datetime(created),
        )
        found.append(view)
    return found


def notices_of(connection: Connection, run: int, lines: int) -> list[NoticeView]:
    """Return flowherd's own lines in the log of the run with this number, which has so many lines.

    Of a long log only those near its begin and its end: the account of a run has what happened between.
    """
    windows = [(1, lines)] if lines <= _FIRST + _LAST else [(1, _FIRST), (lines - _LAST + 1, lines)]
    rows = [
        row
        for begin, end in windows
        for row in plain(connection).execute(_NOTICES, (run, run << 32 | begin, run << 32 | end))
    ]
    return [NoticeView(at=to_datetime(at), message=message) for at, message in rows]


def has_notices_after(connection: Connection, run: int, line: int) -> bool:
    """Return whether flowherd itself has written into the log of the run with this number after its line `line`."""
    return plain(connection).execute(_NEWER, (run, run << 32 | line)).fetchone() is not None


def waiting_tasks_of(connection: Connection, run_id: str) -> list[WaitingTaskView]:
    """Return the task runs of a run that wait for a retry or for a person, the earliest first."""
    rows = plain(connection).execute(_TASKS, (run_id,))
    return [WaitingTaskView(task=name or "", state=state, due=_time(due)) for name, state, due in rows]


def agents_known(
    connection: Connection, now_us: int, is_connected: Callable[[str], bool], ids: Sequence[str | None] = ()
) -> list[AgentView]:
    """Return the agents that were heard of in the last day, newest first, and those with these ids."""
    recent = AGENT.c.last_queried > now_us - _AGENT_AGE_S * SECOND_US
    wanted = [agent_id for agent_id in ids if agent_id]
    query = select(AGENT).where(recent | AGENT.c.id.in_(wanted) if wanted else recent)
    rows = connection.execute(query.order_by(AGENT.c.last_queried.desc()).limit(_MOST)).mappings()
    return [
        AgentView(
            id=row["id"],
            name=row["name"] or "",
            labels=tuple(row["labels"]),
            last_queried=_time(row["last_queried"]),
            connected=is_connected(row["id"]),
            report=read_agent_report(row["report"]),
            reported=_time(row["reported"]),
        )
        for row in rows
    ]


def _time(at_us: int | None) -> Any:
    return None if at_us is None else to_datetime(at_us)

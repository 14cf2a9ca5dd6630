"""What an earlier server left waiting for its time, for the wake board; what is due agents look at by themselves."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.graphql.operations import Effects
from flowherd_server.runs.task_state_changes import HANDED_OUT_AFTER_US
from flowherd_server.store.database import Database
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN
from flowherd_server.store.times import now_us

_WAITING = sorted(CLAIMABLE)


def waiting(database: Database) -> Effects:
    """Flow runs whose time is to come, and those of which a task run's time is."""
    now = now_us()
    queries = (waiting_runs(now), waiting_task_runs(now))
    with database.reading() as connection:
        return Effects(due=[(at_us, labels) for query in queries for at_us, labels in connection.execute(query)])


def waiting_runs(now: int) -> Select[Any]:
    """Start time and labels of flow runs that wait."""
    return select(FLOW_RUN.c.state_start_time, FLOW_RUN.c.labels).where(
        FLOW_RUN.c.state.in_(_WAITING), FLOW_RUN.c.state_start_time > now
    )


def waiting_task_runs(now: int) -> Select[Any]:
    """When flow runs that go on are handed out again for a task run that waits, and their labels."""
    return (
        select(TASK_RUN.c.state_start_time + HANDED_OUT_AFTER_US, FLOW_RUN.c.labels)
        .join(FLOW_RUN, FLOW_RUN.c.id == TASK_RUN.c.flow_run_id)
        .where(
            TASK_RUN.c.state.in_(_WAITING),
            TASK_RUN.c.state_start_time > now - HANDED_OUT_AFTER_US,
            FLOW_RUN.c.state == RunState.RUNNING.value,
        )
    )

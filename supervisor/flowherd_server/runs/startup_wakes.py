"""Runs that an earlier server process left waiting for their time: what a new server must wake agents for.

Runs that are due already need no wake, because agents look for them when they connect.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select

from flowherd.states import CLAIMABLE, RunState
from flowherd_server.call import Effects
from flowherd_server.offers import DueRun
from flowherd_server.runs.task_run_states import HANDED_OUT_AFTER_US
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import now_us
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN

_WAITING = sorted(CLAIMABLE)


def startup_wakes(database: Database) -> Effects:
    """Return when agents must be woken, for flow runs and for task runs that wait."""
    now = now_us()
    queries = (waiting_flow_runs(now), waiting_task_runs(now))
    with database.reading() as connection:
        rows = (row for query in queries for row in connection.execute(query))
        return Effects(due=[(at_us, DueRun(*run)) for at_us, *run in rows])


def waiting_flow_runs(now: int) -> Select[Any]:
    """Return the query for start time and `DueRun` of waiting flow runs."""
    return select(FLOW_RUN.c.state_start_time, FLOW_RUN.c.id, FLOW_RUN.c.version, FLOW_RUN.c.labels).where(
        FLOW_RUN.c.state.in_(_WAITING), FLOW_RUN.c.state_start_time > now
    )


def waiting_task_runs(now: int) -> Select[Any]:
    """Return the query for the time when a Running flow run is due again for a waiting task run, and its `DueRun`."""
    return (
        select(TASK_RUN.c.state_start_time + HANDED_OUT_AFTER_US, FLOW_RUN.c.id, FLOW_RUN.c.version, FLOW_RUN.c.labels)
        .join(FLOW_RUN, FLOW_RUN.c.id == TASK_RUN.c.flow_run_id)
        .where(
            TASK_RUN.c.state.in_(_WAITING),
            TASK_RUN.c.state_start_time > now - HANDED_OUT_AFTER_US,
            FLOW_RUN.c.state == RunState.RUNNING.value,
        )
    )

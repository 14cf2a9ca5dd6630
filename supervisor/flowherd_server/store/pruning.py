"""Deletes finished runs after the configured time, in small transactions that let other writers in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import delete, select, tuple_

from flowherd.states import FINISHED
from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.tables import FLOW_RUN, LOG_LINE

#: Maximum number of log lines, runs and free pages in one transaction.
_ROWS_AT_ONCE = 5_000
_RUNS_AT_ONCE = 50
_PAGES_AT_ONCE = 2_000
#: Pause after each transaction, seconds, so that waiting writers get the lock.
_PAUSE_S = 0.01
_FINISHED_NAMES = sorted(FINISHED)


def prune(database: Database, keep_finished_s: float, stopping: Callable[[], bool]) -> int:
    """Delete runs that finished longer ago than `keep_finished_s`, with their logs and task runs; 0 keeps all.

    Returns how many were deleted. Stops early once `stopping` returns True.
    """
    if keep_finished_s <= 0:
        return 0
    before_us = now_us() - round(keep_finished_s * SECOND_US)
    pruned = 0
    while not stopping() and (flow_run_ids := _old_runs(database, before_us)):
        pruned += _delete_runs(database, flow_run_ids, stopping)
        database.give_back_space(_PAGES_AT_ONCE)
    return pruned


def _old_runs(database: Database, before_us: int) -> list[str]:
    # By the time of the state, because a finished run that never ran has no end time.
    query = select(FLOW_RUN.c.id).where(FLOW_RUN.c.state.in_(_FINISHED_NAMES), FLOW_RUN.c.state_timestamp < before_us)
    with database.reading() as connection:
        return list(connection.execute(query.limit(_RUNS_AT_ONCE)).scalars())


def _delete_runs(database: Database, flow_run_ids: list[str], stopping: Callable[[], bool]) -> int:
    for flow_run_id in flow_run_ids:
        # Logs first and in parts, because deleting a run with a million lines at once would block all writers.
        while not stopping() and _delete_lines(database, flow_run_id) == _ROWS_AT_ONCE:
            time.sleep(_PAUSE_S)
    if stopping():
        return 0
    with database.writing(durable=False) as connection:
        # Checked again, because a run may have been put back into the queue since.
        old = FLOW_RUN.c.id.in_(flow_run_ids), FLOW_RUN.c.state.in_(_FINISHED_NAMES)
        return connection.execute(delete(FLOW_RUN).where(*old)).rowcount


def _delete_lines(database: Database, flow_run_id: str) -> int:
    key = LOG_LINE.primary_key.columns
    run = select(FLOW_RUN.c.seq).where(FLOW_RUN.c.id == flow_run_id).scalar_subquery()
    some = select(*key).where(LOG_LINE.c.run == run).limit(_ROWS_AT_ONCE)
    with database.writing(durable=False) as connection:
        return connection.execute(delete(LOG_LINE).where(tuple_(*key).in_(some))).rowcount

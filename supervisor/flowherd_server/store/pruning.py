"""Forgetting finished runs after the time that the setting names, in pieces that let other writers in between."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Table, delete, select

from flowherd.states import FINISHED
from flowherd_server.store.database import Database
from flowherd_server.store.tables import FLOW_RUN, LOG, insertion_order
from flowherd_server.store.times import SECOND_US, now_us

_ROWS_AT_ONCE = 5_000
_RUNS_AT_ONCE = 50
_PAGES_AT_ONCE = 2_000
#: After each piece, so that writers who wait for the lock get it.
_PAUSE_S = 0.01
_FINISHED_NAMES = sorted(FINISHED)


def prune(database: Database, keep_finished_s: float, stopping: Callable[[], bool]) -> int:
    """Delete runs that finished longer ago than `keep_finished_s`, with all that is theirs; 0 keeps all.

    How many were deleted. Ends early once `stopping` says so.
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
    # A finished run that never ran has no other time than its state's.
    query = select(FLOW_RUN.c.id).where(FLOW_RUN.c.state.in_(_FINISHED_NAMES), FLOW_RUN.c.state_timestamp < before_us)
    with database.reading() as connection:
        return list(connection.execute(query.limit(_RUNS_AT_ONCE)).scalars())


def _delete_runs(database: Database, flow_run_ids: list[str], stopping: Callable[[], bool]) -> int:
    for flow_run_id in flow_run_ids:
        # The logs first and in pieces: deleting a run with a million lines at once would hold up everybody.
        while not stopping() and _delete_some(database, LOG, flow_run_id) == _ROWS_AT_ONCE:
            time.sleep(_PAUSE_S)
    if stopping():
        return 0
    with database.writing(durable=False) as connection:
        # It may have been put back into the queue since.
        old = FLOW_RUN.c.id.in_(flow_run_ids), FLOW_RUN.c.state.in_(_FINISHED_NAMES)
        return connection.execute(delete(FLOW_RUN).where(*old)).rowcount


def _delete_some(database: Database, table: Table, flow_run_id: str) -> int:
    key = table.c[insertion_order(table)]
    some = select(key).where(table.c.flow_run_id == flow_run_id).limit(_ROWS_AT_ONCE)
    with database.writing(durable=False) as connection:
        return connection.execute(delete(table).where(key.in_(some))).rowcount

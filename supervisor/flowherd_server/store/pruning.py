"""Deletes finished runs after the configured time, without getting in the way of other writers.

Rows are deleted in transactions of a few milliseconds, each followed by a pause of some times that length. How many
rows that is, is learned from the transactions before, because it depends on the disk and on what is cached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, select, tuple_

from flowherd_server.store.database import Database
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.tables import FLOW_RUN, LOG_LINE, TASK_RUN

#: Number of runs that are looked up at once.
_RUNS_AT_ONCE = 200
#: Time that one transaction should take, seconds.
_TRANSACTION_S = 0.003
#: Pause after each transaction, as a multiple of the time that it took, and at least this many seconds.
_PAUSE_FACTOR, _SHORTEST_PAUSE_S = 12.0, 0.01
#: Numbers of rows in one transaction: the first try, and the limits.
_FIRST_ROWS, _FEWEST_ROWS, _MOST_ROWS = 50, 5, 5_000


def prune(database: Database, keep_finished_s: float, stopping: Callable[[], bool]) -> int:
    """Delete runs that finished longer ago than `keep_finished_s`, with their logs and task runs; 0 keeps all.

    Returns how many were deleted. Stops early once `stopping` returns True.
    """
    if keep_finished_s <= 0:
        return 0
    return _Pruning(database, now_us() - round(keep_finished_s * SECOND_US), stopping).run()


def old_runs(connection: Connection, before_us: int) -> Sequence[Any]:
    """Return number and id of the next runs to delete, those that ended first first."""
    # Only finished runs have an end time. In its order, so that no run that is kept is read.
    query = select(FLOW_RUN.c.seq, FLOW_RUN.c.id).where(FLOW_RUN.c.end_time < before_us)
    return connection.execute(query.order_by(FLOW_RUN.c.end_time).limit(_RUNS_AT_ONCE)).all()


class _Pruning:
    """One pass."""

    def __init__(self, database: Database, before_us: int, stopping: Callable[[], bool]) -> None:
        self._database = database
        self._before_us = before_us
        self._stopping = stopping
        self._rows, self._pages = _Pace(), _Pace()

    def run(self) -> int:
        pruned = 0
        while not self._stopping() and (runs := self._old_runs()):
            numbers, ids = [run.seq for run in runs], [run.id for run in runs]
            # First what a run may have many of, because deleting a run with a million lines at once would block all
            # writers. Foreign keys delete the rest together with the run.
            self._repeat(lambda count, of=numbers: self._delete(LOG_LINE, LOG_LINE.c.run.in_(of), count))  # type: ignore[misc]
            self._repeat(lambda count, of=ids: self._delete(TASK_RUN, TASK_RUN.c.flow_run_id.in_(of), count))  # type: ignore[misc]
            # The time again, because a run may have been put back into the queue since.
            old = and_(FLOW_RUN.c.seq.in_(numbers), FLOW_RUN.c.end_time < self._before_us)
            pruned += self._repeat(lambda count, old=old: self._delete(FLOW_RUN, old, count))  # type: ignore[misc]
            self._pages.keep(self._database.give_back_space)
            self._database.checkpoint()
        return pruned

    def _old_runs(self) -> Sequence[Any]:
        with self._database.reading() as connection:
            return old_runs(connection, self._before_us)

    def _repeat(self, delete_some: Callable[[int], int]) -> int:
        """Delete until nothing is left or the server stops. Returns how many rows were deleted."""
        total, left = 0, True
        while left and not self._stopping():
            wanted = self._rows.count
            deleted = self._rows.keep(delete_some)
            total, left = total + deleted, deleted >= wanted
        return total

    def _delete(self, table: Table, which: ColumnElement[bool], count: int) -> int:
        key = table.primary_key.columns
        some = select(*key).where(which).limit(count)
        with self._database.writing(durable=False) as connection:
            return connection.execute(delete(table).where(tuple_(*key).in_(some))).rowcount


class _Pace:
    """How much to do at once so that it takes the intended time, learned from how long it took before."""

    def __init__(self) -> None:
        self.count = _FIRST_ROWS

    def keep(self, step: Callable[[int], int]) -> int:
        """Carry out a step with this many, learn from it, and pause. Returns what the step returns."""
        began_s = time.monotonic()
        done = step(self.count)
        took_s = time.monotonic() - began_s
        if done >= self.count or took_s > _TRANSACTION_S:
            wanted = self.count * min(2.0, _TRANSACTION_S / max(took_s, 1e-6))
            self.count = min(_MOST_ROWS, max(_FEWEST_ROWS, round(wanted)))
        time.sleep(max(_SHORTEST_PAUSE_S, took_s * _PAUSE_FACTOR))
        return done

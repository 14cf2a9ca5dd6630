"""Deleting old runs: what goes with them, what stays, and that it can be interrupted."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from sqlalchemy import PrimaryKeyConstraint, UniqueConstraint, func, select, update

from flowherd_server.store.database import Database
from flowherd_server.store.pruning import prune
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN, TASK_RUN_STATE, stored_tables
from flowherd_server.store.views import FLOW_RUN_STATE, LOG
from tests.support.hasura import fill

HOUR_S = 3600.0
OWNED = (FLOW_RUN_STATE, TASK_RUN, TASK_RUN_STATE, LOG)


def never() -> bool:
    return False


def numbers(database: Database, *tables: Any) -> list[int]:
    with database.reading() as connection:
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database, seed=5)
    return database


def test_old_runs_go_with_all_that_belongs_to_them(filled: Database) -> None:
    with filled.writing() as connection:
        connection.execute(update(FLOW_RUN), {"end_time": 1, "state": "Success"})
    runs = numbers(filled, FLOW_RUN)[0]
    assert prune(filled, HOUR_S, never) == runs > 1
    assert numbers(filled, FLOW_RUN, *OWNED) == [0, 0, 0, 0, 0]


def test_runs_that_have_not_ended_stay_with_all_that_belongs_to_them(filled: Database) -> None:
    with filled.writing() as connection:
        connection.execute(update(FLOW_RUN), {"end_time": None, "state": "Running"})
    before = numbers(filled, FLOW_RUN, *OWNED)
    assert prune(filled, HOUR_S, never) == 0
    assert numbers(filled, FLOW_RUN, *OWNED) == before


def test_a_pass_that_is_stopped_is_finished_by_the_next_one(filled: Database) -> None:
    with filled.writing() as connection:
        connection.execute(update(FLOW_RUN), {"end_time": 1, "state": "Success"})
    asked = count()
    assert prune(filled, HOUR_S, lambda: next(asked) >= 2) == 0
    assert prune(filled, HOUR_S, never) > 0
    assert numbers(filled, FLOW_RUN, *OWNED) == [0, 0, 0, 0, 0]


def test_every_foreign_key_has_an_index_by_which_a_deletion_finds_the_rows() -> None:
    """Tenants are left out, because no operation deletes one."""
    lacking = []
    for table in stored_tables():
        unique = [each for each in table.constraints if isinstance(each, UniqueConstraint | PrimaryKeyConstraint)]
        indexed = {next(iter(each.columns)).name for each in [*table.indexes, *unique]}
        keys = {key.parent.name for key in table.foreign_keys if key.column.table.name != "tenant"}
        lacking += [f"{table.name}.{name}" for name in keys - indexed]
    assert lacking == []

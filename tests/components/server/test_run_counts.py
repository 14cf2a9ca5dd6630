"""The kept numbers of runs: what a count of the rows gives, whatever has happened to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, func, select, update

from flowherd_server.graphql.arguments import Arguments, Parents
from flowherd_server.graphql.compiler import Measure, measure_rows
from flowherd_server.store.database import Database
from flowherd_server.store.run_counts import RUN_COUNT
from flowherd_server.store.tables import FLOW, FLOW_RUN
from tests.support.hasura import fill


def kept(connection: Connection) -> list[tuple[Any, ...]]:
    return sorted(tuple(row) for row in connection.execute(select(RUN_COUNT)))


def counted(connection: Connection) -> list[tuple[Any, ...]]:
    query = select(FLOW_RUN.c.flow_id, FLOW_RUN.c.state, func.count()).group_by(FLOW_RUN.c.flow_id, FLOW_RUN.c.state)
    return sorted(tuple(row) for row in connection.execute(query))


@pytest.fixture
def filled(database: Database) -> Database:
    fill(database, seed=3)
    return database


def test_counts_follow_changes_of_state_and_deletions_also_those_of_foreign_keys(filled: Database) -> None:
    with filled.writing() as connection:
        assert kept(connection) == counted(connection) != []
        connection.execute(update(FLOW_RUN), {"state": "Failed"})
        assert kept(connection) == counted(connection)
        flow_id = connection.execute(select(FLOW_RUN.c.flow_id)).scalars().first()
        connection.execute(delete(FLOW).where(FLOW.c.id == flow_id))
        assert kept(connection) == counted(connection)
        connection.execute(delete(FLOW_RUN))
        assert kept(connection) == []


def test_a_database_without_counts_gets_them_when_it_is_opened(filled: Database, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "test.sqlite")) as connection, connection:
        connection.executescript(
            "DROP TRIGGER flow_run_counted_insert; DROP TRIGGER flow_run_counted_delete;"
            "DROP TRIGGER flow_run_counted_update; DROP TABLE flow_run_count"
        )
    with closing(Database(tmp_path / "test.sqlite")) as database, database.reading() as again:
        assert kept(again) == counted(again) != []


@pytest.mark.parametrize(
    "where",
    [
        None,
        {"state": {"_eq": "Running"}},
        {"_or": [{"state": {"_in": ["Running", "a"]}}, {"_not": {"state": {"_neq": "Failed"}}}]},
        {"flow": {"name": {"_neq": "a"}}},
    ],
    ids=str,
)
@pytest.mark.parametrize("nested", [False, True])
def test_what_the_counts_tell_apart_is_not_counted_in_the_runs(filled: Database, where: Any, nested: bool) -> None:
    with filled.reading() as connection:
        flows = list(connection.execute(select(FLOW.c.id)).scalars())
        parents = Parents("flow_id", flows) if nested else None
        query = measure_rows(FLOW_RUN, [Measure("count")], Arguments(where=where), parents)
        # A limit has it counted.
        other = measure_rows(FLOW_RUN, [Measure("count")], Arguments(where=where, limit=1000), parents)
        assert "flow_run_count" in str(query)
        assert "flow_run_count" not in str(other)
        assert sorted(connection.execute(query).all()) == sorted(connection.execute(other).all())

"""Frequent queries use an index, so they stay fast with a million rows: checked in SQLite's query plans."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import Select, event
from sqlalchemy.dialects import sqlite

from flowherd_server.call import Call, Caller
from flowherd_server.mutations import OPERATIONS
from flowherd_server.runs.stale_heartbeats import StaleHeartbeats, dead_flow_runs, zombie_flow_runs, zombie_task_runs
from flowherd_server.runs.startup_wakes import waiting_flow_runs, waiting_task_runs
from flowherd_server.store.database import Database

_STALE = StaleHeartbeats(before_us=2, claimed_before_us=1)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with closing(Database(tmp_path_factory.mktemp("plans") / "test.sqlite")) as database:
        yield database


def plan(database: Database, statement: str, parameters: Any) -> list[str]:
    with database.reading() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [row[-1] for row in rows]


def assert_indexed(steps: list[str]) -> None:
    """Check that no step scans a table; scanning a list that was passed as a parameter is fine."""
    scans = [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    assert not [step for step in scans if not step.startswith(("SCAN CONSTANT", "SCAN json_each"))], steps


def compiled(query: Select[Any]) -> tuple[str, tuple[Any, ...]]:
    text = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    return str(text), ()


@pytest.mark.parametrize(
    "query",
    [
        zombie_task_runs(_STALE),
        zombie_flow_runs(_STALE),
        dead_flow_runs(_STALE),
        waiting_flow_runs(1),
        waiting_task_runs(1),
    ],
    ids=["zombie tasks", "zombie runs", "dead runs", "waiting runs", "waiting task runs"],
)
def test_the_servers_own_searches_use_an_index(database: Database, query: Select[Any]) -> None:
    assert_indexed(plan(database, *compiled(query.limit(5000))))


@pytest.mark.parametrize("labels", [[], ["a", "b"]])
def test_the_query_of_the_queue_uses_indexes(database: Database, labels: list[str]) -> None:
    operation = next(each for each in OPERATIONS if each.name == "get_runs_in_queue")
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
        statements.append((statement, parameters))

    event.listen(database._soft, "before_cursor_execute", note)
    try:
        with database.writing(durable=False) as connection:
            operation.handle(Call(connection, Caller(), 1, 1), operation.prepare({"labels": labels}))
    finally:
        event.remove(database._soft, "before_cursor_execute", note)
    queries = [each for each in statements if "flow_run" in each[0]]
    assert queries
    for statement, parameters in queries:
        assert_indexed(plan(database, statement, parameters))

"""Database files that earlier releases have written: opening one upgrades its tables and keeps its rows."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select

from flowherd_server.store.database import Database
from flowherd_server.store.tables import FLOW_RUN, SCHEMA_VERSION, TASK_RUN, TENANT
from flowherd_server.store.views import LOG

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"


def shape(path: Path) -> dict[str, Any]:
    """Return the columns of each table, and the indexes, independent of their order."""
    with closing(sqlite3.connect(path)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        columns = {name: connection.execute(f'PRAGMA table_xinfo("{name}")').fetchall() for (name,) in tables}
        indexes = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'").fetchall()
    # Without the column's position, which is last for an added column.
    return {"indexes": set(indexes), **{name: {row[1:] for row in rows} for name, rows in columns.items()}}


def kept(name: str, directory: Path) -> Path:
    path = directory / "kept.sqlite"
    path.write_bytes(gzip.decompress((FIXTURES / f"{name}.sqlite.gz").read_bytes()))
    return path


def test_a_database_of_layout_1_gets_the_tables_of_a_new_one(tmp_path: Path) -> None:
    path = kept("database-1", tmp_path)
    Database(path).close()
    Database(tmp_path / "new.sqlite").close()
    assert shape(path) == shape(tmp_path / "new.sqlite")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_the_rows_of_a_database_of_layout_1_are_kept_and_can_be_changed(tmp_path: Path) -> None:
    path = kept("database-1", tmp_path)
    for _ in range(2):
        with closing(Database(path)) as database, database.reading() as connection:
            runs = {run["name"]: run for run in connection.execute(select(FLOW_RUN)).mappings()}
            assert {name: runs[name]["state"] for name in ("ended", "going", "waiting")} == {
                "ended": "Success",
                "going": "Running",
                "waiting": "Scheduled",
            }
            assert len(runs) == 5
            assert runs["waiting"]["parameters"] == {"x": 1}
            assert runs["ended"]["duration"] == runs["ended"]["end_time"] - runs["ended"]["start_time"]
            assert list(connection.execute(select(LOG.c.message).order_by(LOG.c.id)).scalars()) == [
                "a line",
                "another",
            ]
            assert {row.claim for row in connection.execute(select(TASK_RUN.c.claim))} == {None}
    with closing(Database(path)) as database, database.writing() as connection:
        connection.execute(insert(TENANT), {"id": "second", "slug": "second", "name": "second", "created": 0})
        connection.execute(TASK_RUN.update().values(claim="mine"))

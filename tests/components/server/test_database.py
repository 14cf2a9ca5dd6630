"""The database file: opening it, transactions, and the functions of Postgres."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from flowherd.errors import ConfigurationError
from flowherd_server.store.database import Database
from flowherd_server.store.tables import TENANT


def tenants(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(select(TENANT.c.id)).scalars())


def test_a_database_that_is_opened_again_keeps_its_one_tenant(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "odd ?#%name.sqlite")) as database:
        first = tenants(database)
    with closing(Database(tmp_path / "odd ?#%name.sqlite")) as database:
        assert tenants(database) == first
    assert len(first) == 1


def test_a_database_of_a_newer_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "test.sqlite"
    Database(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(ConfigurationError, match="newer flowherd"):
        Database(path)


def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "test.sqlite"
    path.write_text("my only copy of something else\n" * 100)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Database(path)
    assert path.read_bytes() == before


def test_a_failed_write_is_rolled_back_and_releases_the_lock(database: Database) -> None:
    with pytest.raises(RuntimeError), database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM tenant")
        raise RuntimeError
    with database.writing(durable=False):
        assert len(tenants(database)) == 1


def test_readers_do_not_wait_for_a_writer(database: Database) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM tenant")
        assert len(tenants(database)) == 1  # on a connection that is opened while the writer holds the lock


def test_a_durable_write_is_flushed_to_the_disk_and_a_soft_one_is_not(database: Database) -> None:
    full, normal = 2, 1  # PRAGMA synchronous
    with database.writing() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == full
    with database.writing(durable=False) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == normal


def test_freed_space_is_returned_to_the_file_system(database: Database, tmp_path: Path) -> None:
    with database.writing() as connection:
        connection.exec_driver_sql("CREATE TABLE bulk AS SELECT zeroblob(4000000) AS bytes")
        connection.exec_driver_sql("DROP TABLE bulk")

    def free_pages() -> int:
        with database.reading() as connection:
            return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())

    before = free_pages()
    database.give_back_space(500)
    assert before - free_pages() == 500


@pytest.mark.parametrize(
    ("whole", "part", "expected"),
    [
        ('{"a": 1, "b": [2]}', '{"a": 1}', 1),
        ('{"a": 1}', '{"a": 2}', 0),
        ('{"a": {"b": 1, "c": 2}}', '{"a": {"c": 2}}', 1),
        ("[1, [2, 3], 4]", "[[3], 1]", 1),
        ("[1, 2]", "[3]", 0),
        ('["a"]', '"a"', 1),
        ('["a"]', '{"a": 1}', 0),
        ("3", "3", 1),
        (None, "[]", None),
    ],
)
def test_containment_is_that_of_jsonb(database: Database, whole: str | None, part: str, expected: int | None) -> None:
    with database.reading() as connection:
        found = connection.exec_driver_sql("SELECT fh_json_contains(?, ?)", (whole, part)).scalar()
    assert found == expected

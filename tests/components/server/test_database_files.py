"""A database whose files are deleted, moved, replaced or overwritten takes no write; everything else is no loss."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from flowherd.errors import ConfigurationError
from flowherd_server.errors import DatabaseLost, DatabaseUnusable
from flowherd_server.store.database import FILE_NAME, Database
from flowherd_server.store.database_files import index_of, put_stale_wal_aside, wal_of
from flowherd_server.store.database_marker import MARKER_FILE, DatabaseRecord, open_database
from flowherd_server.store.tables import TENANT
from tests.components.server.test_rescue import World


@pytest.fixture
def place(made_database: Path, tmp_path: Path) -> Path:
    """A data directory with a database and, beside the directory, an older copy of it."""
    place = tmp_path / "data"
    place.mkdir()
    shutil.copy(made_database, place / FILE_NAME)
    shutil.copy(made_database, tmp_path / "older")
    return place


@pytest.fixture
def database(place: Path) -> Iterator[Database]:
    with closing(Database(place / FILE_NAME)) as database:
        add(database, "before")
        yield database


def add(database: Database, name: str) -> None:
    with database.writing() as connection:
        connection.execute(insert(TENANT), {"id": name, "slug": name, "name": name, "created": 0})


def names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT name FROM tenant ORDER BY seq")]


def delete(place: Path) -> None:
    (place / FILE_NAME).unlink()


def delete_wal(place: Path) -> None:
    wal_of(place / FILE_NAME).unlink()


def delete_index(place: Path) -> None:
    index_of(place / FILE_NAME).unlink()


def replace(place: Path) -> None:
    (place.parent / "older").replace(place / FILE_NAME)


def overwrite(place: Path) -> None:
    shutil.copy2(place.parent / "older", place / FILE_NAME)


def truncate(place: Path) -> None:
    os.truncate(place / FILE_NAME, 0)


def rename_directory(place: Path) -> None:
    place.rename(place.with_name("elsewhere"))


def another_directory(place: Path) -> None:
    rename_directory(place)
    place.mkdir()
    (place.parent / "older").rename(place / FILE_NAME)


LOSSES = [delete, delete_wal, delete_index, replace, overwrite, truncate, rename_directory, another_directory]


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_nothing_is_written_after_a_loss(place: Path, database: Database, lose: Callable[[Path], None]) -> None:
    lose(place)
    there = sorted(place.iterdir()) if place.exists() else []
    for _ in range(2):
        with pytest.raises(DatabaseLost, match=FILE_NAME):
            add(database, "after")
    assert FILE_NAME in database.problem
    assert (sorted(place.iterdir()) if place.exists() else []) == there, "no file is made again"


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_a_write_during_which_the_files_are_lost_is_not_acknowledged(
    place: Path, database: Database, lose: Callable[[Path], None]
) -> None:
    with pytest.raises(DatabaseLost), database.writing() as connection:
        connection.execute(insert(TENANT), {"id": "x", "slug": "x", "name": "x", "created": 0})
        lose(place)


def test_checkpoints_and_other_programs_that_use_sqlite_are_no_loss(place: Path, database: Database) -> None:
    size = (place / FILE_NAME).stat().st_size
    for number in range(12):
        add(database, f"{number}" + "x" * 500_000)
    assert (place / FILE_NAME).stat().st_size > size, "the WAL was written back, which changes the file"
    with closing(sqlite3.connect(place / FILE_NAME)) as other:
        other.execute("INSERT INTO tenant (id, slug, name, created) VALUES ('o', 'o', 'other', 0)")
        other.commit()
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.look()
    add(database, "last")
    assert names(place / FILE_NAME)[-2:] == ["other", "last"]


def test_a_moved_database_is_complete_and_its_wal_is_not_added_to_another(place: Path, database: Database) -> None:
    (place / FILE_NAME).rename(place / "moved")
    replace(place)
    with pytest.raises(DatabaseLost):
        database.look()
    database.give_up()
    assert sorted(each.name for each in place.iterdir()) == [FILE_NAME, "moved"]
    assert names(place / "moved") == ["default", "before"]
    assert names(place / FILE_NAME) == ["default"]


def test_the_wal_of_an_overwritten_database_is_put_aside(place: Path, database: Database) -> None:
    overwrite(place)
    with pytest.raises(DatabaseLost):
        database.look()
    database.give_up()
    assert (place / FILE_NAME).read_bytes() == (place.parent / "older").read_bytes()
    assert not wal_of(place / FILE_NAME).exists()
    assert any("set-aside" in each.name for each in place.iterdir())


def test_a_wal_that_a_killed_server_left_beside_another_database_is_put_aside(place: Path, database: Database) -> None:
    inodes = database.inodes
    wal = wal_of(place / FILE_NAME).read_bytes()
    replace(place)
    put_stale_wal_aside(place / FILE_NAME, inodes)
    assert not wal_of(place / FILE_NAME).exists()
    (aside,) = (each for each in place.iterdir() if "set-aside" in each.name)
    assert aside.read_bytes() == wal


def test_a_directory_that_had_a_database_does_not_silently_get_an_empty_one(tmp_path: Path) -> None:
    with closing(open_database(tmp_path)) as database:
        DatabaseRecord(database, tmp_path)
    (tmp_path / FILE_NAME).unlink()
    for there in (False, True):
        if there:
            (tmp_path / FILE_NAME).touch()
        with pytest.raises(ConfigurationError, match=MARKER_FILE):
            open_database(tmp_path)
    (tmp_path / MARKER_FILE).unlink()
    open_database(tmp_path).close()


def test_the_same_holds_for_a_directory_that_was_moved_away_as_a_whole(place: Path, database: Database) -> None:
    record = DatabaseRecord(database, place)
    rename_directory(place)
    with pytest.raises(DatabaseLost):
        database.look()
    record.note_loss()
    place.mkdir()
    with pytest.raises(ConfigurationError, match=r"data\.lost"):
        open_database(place)
    place.rmdir()
    place.with_name("elsewhere").rename(place)
    with closing(open_database(place)) as again:
        DatabaseRecord(again, place)
    assert not place.with_name("data.lost").exists()


def start(place: Path, writes: int = 0) -> str:
    """Open the database as a server does and store something; return why it is taken for an older copy."""
    with closing(open_database(place)) as database:
        record = DatabaseRecord(database, place)
        for _ in range(writes):
            with database.writing() as connection:
                connection.exec_driver_sql("UPDATE tenant SET name = name")
            record.keep()
        return record.restored


def test_an_older_copy_is_known_by_what_the_marker_says(database: Database, place: Path) -> None:
    world = World(database)
    world.do("create_flow_run", flow_id=world.flow)
    database.close()
    old, young = place.parent / "old", place.parent / "young"
    shutil.copy(place / FILE_NAME, old)
    assert start(place, writes=2) == "", "a database of a release without markers"
    shutil.copy(place / FILE_NAME, young)
    assert start(place, writes=2) == ""
    shutil.copy(young, place / FILE_NAME)
    assert "has come to" in start(place)
    assert start(place) == "", "said once"
    shutil.copy(place / FILE_NAME, young)
    young.replace(place / FILE_NAME)
    assert "its file" in start(place)
    (place / MARKER_FILE).unlink()
    assert "does not come with it" in start(place)
    shutil.copy(old, place / FILE_NAME)
    assert "another one" in start(place)
    (place / MARKER_FILE).write_text("{")
    assert "does not come with it" in start(place)


def test_a_disk_that_cannot_be_written_at_the_start_is_no_bad_setting(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FILE_NAME).mkdir()
    with pytest.raises(DatabaseUnusable):
        Database(tmp_path / "data" / FILE_NAME)


def test_reading_goes_on_until_the_loss_is_noticed_and_then_says_so(place: Path, database: Database) -> None:
    with database.reading() as connection:
        assert connection.execute(select(TENANT.c.name)).scalars().all() == ["default", "before"]
    delete(place)
    with pytest.raises(DatabaseLost):
        database.look()
    with pytest.raises(DatabaseLost), database.reading():
        pass

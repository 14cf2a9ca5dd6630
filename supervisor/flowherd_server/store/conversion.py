"""Converts a database of layout 1 or 2 (release 0.1.0), which had other tables for the logs and states of runs.

In steps, each a transaction, so that it may be interrupted at any moment and goes on at the next start:

1. Copy the file, beside it. Nothing is changed before.
2. Set the old tables aside under another name, make the new ones, and write the new layout's number into the file, by
   which an earlier release refuses it from here on.
3. Move the rows, some thousand at a time.
4. Delete the old tables. Their space is given back, as far as this is not interrupted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from loguru import logger
from sqlalchemy import Connection

from flowherd.config import CONVERTING_FILE
from flowherd.errors import ConfigurationError
from flowherd_server.store.copy_database import Progress, copy_database
from flowherd_server.store.log_lines import NewLine, store_lines

#: The last layout that has to be converted.
LAST_OLD_LAYOUT = 2
#: {table that is converted: its name meanwhile}.
_OLD_TABLES = {"log": "log_of_layout_2", "flow_run_state": "flow_run_state_of_layout_2"}
_ROWS_AT_ONCE = 5_000

Writing = Callable[[], AbstractContextManager[Connection]]


def keep_copy(path: Path, layout: int) -> None:
    """Copy a file of an old layout before it is converted. Raises ConfigurationError if that is not possible."""
    copy = path.with_name(f"{path.name}.layout-{layout}")
    logger.info("{} is from an earlier release. Copying it to {} before it is converted", path, copy)
    try:
        with _marked(path):
            copy_database(path, copy, Progress(_reporting("copying the database")))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path} is from an earlier release, and is copied before it is converted. Nothing was changed: {error}; "
            "make room, or move the data directory to a larger file system and name it with --data-dir"
        ) from error
    logger.info("The copy is complete. Delete it when you are content with this release")


def set_old_tables_aside(connection: Connection) -> None:
    """Rename the tables that are converted, in the transaction that makes the new ones."""
    for name, old in _OLD_TABLES.items():
        if _has_table(connection, name):
            connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {old}")


def unfinished_conversion(connection: sqlite3.Connection) -> bool:
    """Return whether a conversion was interrupted."""
    query = f"SELECT 1 FROM sqlite_master WHERE name IN ({', '.join('?' for _ in _OLD_TABLES)})"
    return connection.execute(query, tuple(_OLD_TABLES.values())).fetchone() is not None


def finish_conversion(path: Path, writing: Writing) -> bool:
    """Move what is left in the old tables. Returns whether there was something."""
    with writing() as connection:
        left = [name for name, old in _OLD_TABLES.items() if _has_table(connection, old)]
    with _marked(path):  # even if there is nothing left, because an interrupted server has left the mark
        if left:
            logger.info("Converting the database. This can be interrupted; the next start goes on with it")
        for name in left:
            _convert(writing, name, _OLD_TABLES[name])
        if left:
            logger.info("The database is converted")
    return bool(left)


@contextmanager
def _marked(path: Path) -> Iterator[None]:
    mark = path.with_name(CONVERTING_FILE)
    mark.touch(0o600)
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def _convert(writing: Writing, name: str, old: str) -> None:
    _drop_indexes(writing, old)
    key, move = _MOVES[name]
    with writing() as connection:
        first, last = connection.exec_driver_sql(f"SELECT min({key}), max({key}) FROM {old}").one()
    progress = Progress(_reporting(f"converting the table {name}"))
    some = f"SELECT max({key}) FROM (SELECT {key} FROM {old} ORDER BY {key} LIMIT {_ROWS_AT_ONCE})"
    done = last is None
    while not done:
        with writing() as connection:
            moved: int = connection.exec_driver_sql(some).scalar_one()
            move(connection, old, moved)
            connection.exec_driver_sql(f"DELETE FROM {old} WHERE {key} <= ?", (moved,))
        done = moved == last
        progress((moved - first + 1) / (last - first + 1))
    with writing() as connection:
        connection.exec_driver_sql(f"DROP TABLE {old}")


def _reporting(what: str) -> Callable[[float, float], None]:
    def report(share: float, rest_s: float) -> None:
        logger.info("{}: {:.0f} %, about {:.0f} s left", what.capitalize(), share * 100, rest_s)

    return report


def _has_table(connection: Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.exec_driver_sql(query, (name,)).first() is not None


def _drop_indexes(writing: Writing, old: str) -> None:
    """Drop the old table's indexes, which deleting its rows would have to maintain; new rows get their pages."""
    query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
    with writing() as connection:
        names = list(connection.exec_driver_sql(query, (old,)).scalars())
    for name in names:
        with writing() as connection:
            connection.exec_driver_sql(f'DROP INDEX "{name}"')


def _move_lines(connection: Connection, old: str, last: int) -> None:
    task_run = "(SELECT id FROM task_run WHERE id = task_run_id)"
    # The stream, if info is an object; a value that looks like a number is one here (graphql/operators.py).
    stream = "CASE WHEN json_valid(info) THEN json_extract(info, '$.stream') END"
    # In the order of NewLine.
    columns = f"flow_run_id, {task_run}, timestamp, name, level, message, info, {stream}, line_id"
    query = f"SELECT {columns} FROM {old} WHERE id <= ? AND flow_run_id IN (SELECT id FROM flow_run) ORDER BY id"
    store_lines(connection, [NewLine(*row) for row in connection.exec_driver_sql(query, (last,))], 0)


def _move_states(connection: Connection, old: str, last: int) -> None:
    columns = "version, state, timestamp, start_time, message, serialized_state, created"
    selected = ", ".join(f"old.{column}" for column in columns.split(", "))
    connection.exec_driver_sql(
        f"INSERT INTO run_state (run, {columns}) SELECT flow_run.seq, {selected} "
        f"FROM {old} AS old JOIN flow_run ON flow_run.id = old.flow_run_id WHERE old.seq <= ?",
        (last,),
    )


#: {table that is converted: (its key, which grows with each row; what stores its rows up to a key in the new table)}.
_MOVES: dict[str, tuple[str, Callable[[Connection, str, int], None]]] = {
    "log": ("id", _move_lines),
    "flow_run_state": ("seq", _move_states),
}

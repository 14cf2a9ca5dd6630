"""Converts a database of layout 1 or 2 (release 0.1.0), whose log had another table, to that of this release.

In steps, each a transaction, so that it may be interrupted at any moment and goes on at the next start:

1. Copy the file, beside it. Nothing is changed before.
2. Set the old tables aside under another name, make the new ones, and write the new layout's number into the file, by
   which an earlier release refuses it from here on.
3. Move the rows, some thousand at a time.
4. Delete the old tables. Their space is given back, as far as this is not interrupted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from loguru import logger
from sqlalchemy import Connection

from flowherd.errors import ConfigurationError
from flowherd_server.store.copy_database import Progress, copy_database
from flowherd_server.store.log_lines import NewLine, store_lines

#: The last layout that has to be converted.
LAST_OLD_LAYOUT = 2
_OLD_LOG = "log_of_layout_2"
_ROWS_AT_ONCE = 5_000

Writing = Callable[[], AbstractContextManager[Connection]]


def keep_copy(path: Path, layout: int) -> None:
    """Copy a file of an old layout before it is converted. Raises ConfigurationError if that is not possible."""
    copy = path.with_name(f"{path.name}.layout-{layout}")
    logger.info("{} is from an earlier release. Copying it to {} before it is converted", path, copy)
    try:
        copy_database(path, copy, Progress(_reporting("copying the database")))
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{path} is from an earlier release, and is copied before it is converted. Nothing was changed: {error}; "
            "make room, or move the data directory to a larger file system and name it with --data-dir"
        ) from error
    logger.info("The copy is complete. Delete it when you are content with this release")


def set_old_tables_aside(connection: Connection) -> None:
    """Rename the tables that are converted, in the transaction that makes the new ones."""
    if _has_table(connection, "log"):
        connection.exec_driver_sql(f"ALTER TABLE log RENAME TO {_OLD_LOG}")


def finish_conversion(writing: Writing) -> bool:
    """Move what is left in the old tables. Returns whether there was something."""
    with writing() as connection:
        if not _has_table(connection, _OLD_LOG):
            return False
    logger.info("Converting the database. This can be interrupted; the next start goes on with it")
    _drop_indexes(writing)
    _move_log(writing)
    with writing() as connection:
        connection.exec_driver_sql(f"DROP TABLE {_OLD_LOG}")
    logger.info("The database is converted")
    return True


def _reporting(what: str) -> Callable[[float, float], None]:
    def report(share: float, rest_s: float) -> None:
        logger.info("{}: {:.0f} %, about {:.0f} s left", what.capitalize(), share * 100, rest_s)

    return report


def _has_table(connection: Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.exec_driver_sql(query, (name,)).first() is not None


def _drop_indexes(writing: Writing) -> None:
    """Drop the old table's indexes, which deleting its rows would have to maintain; new rows get their pages."""
    query = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
    with writing() as connection:
        names = list(connection.exec_driver_sql(query, (_OLD_LOG,)).scalars())
    for name in names:
        with writing() as connection:
            connection.exec_driver_sql(f'DROP INDEX "{name}"')


def _move_log(writing: Writing) -> None:
    with writing() as connection:
        first, last = connection.exec_driver_sql(f"SELECT min(id), max(id) FROM {_OLD_LOG}").one()
    progress = Progress(_reporting("converting the log"))
    while (moved := _move_lines(writing)) is not None:
        progress((moved - first + 1) / (last - first + 1))


def _move_lines(writing: Writing) -> int | None:
    """Move the oldest lines. Returns the number of the last one, None if there was none."""
    task_run = "(SELECT id FROM task_run WHERE id = task_run_id)"
    # The stream, if info is an object; a value that looks like a number is one here (graphql/operators.py).
    stream = "CASE WHEN json_valid(info) THEN json_extract(info, '$.stream') END"
    # In the order of NewLine.
    columns = f"flow_run_id, {task_run}, timestamp, name, level, message, info, {stream}, line_id"
    query = (
        f"SELECT id, {columns} FROM {_OLD_LOG} WHERE flow_run_id IN (SELECT id FROM flow_run) "
        f"ORDER BY id LIMIT {_ROWS_AT_ONCE}"
    )
    with writing() as connection:
        rows = connection.exec_driver_sql(query).all()
        if not rows:
            return None
        store_lines(connection, [NewLine(*row[1:]) for row in rows], 0)
        connection.exec_driver_sql(f"DELETE FROM {_OLD_LOG} WHERE id <= ?", (rows[-1][0],))
        return int(rows[-1][0])

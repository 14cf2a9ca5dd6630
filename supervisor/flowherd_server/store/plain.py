"""Single rows by constant statements, which sqlite3 keeps prepared: for what every run needs.

An expression of SQLAlchemy costs some ten times as much as the statement itself. The texts come from the tables and are
made once; values are stored and read as the columns' types of SQLAlchemy do it.

Raises sqlite3's errors, which `Database.reading` and `Database.writing` turn into SQLAlchemy's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Boolean, Connection, RowMapping, Table

from flowherd_server.store.columns import Json

# Escaped, because a client may send lone surrogates, which cannot be encoded.
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
#: A row, however it was read.
StoredRow = Mapping[str, Any] | RowMapping


def plain(connection: Connection) -> sqlite3.Connection:
    """Return the connection of sqlite3 itself, in the same transaction."""
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection), "the only driver that the engines are made with"
    return found


def dump_json(value: Any) -> str:
    """Return the text as which a value of a JSON column is stored."""
    return _ENCODER.encode(value)


def find_row(connection: Connection, table: Table, row_id: str, without: tuple[str, ...] = ()) -> dict[str, Any] | None:
    """Return the row of `table` with this id, without some of its columns; None if there is none."""
    text, names, readers = _selection(table, without)
    values = plain(connection).execute(text, (row_id,)).fetchone()
    if values is None:
        return None
    row: dict[str, Any] = dict(zip(names, values, strict=True))
    for name, read in readers:
        if row[name] is not None:
            row[name] = read(row[name])
    return row


def insert_row(connection: Connection, table: Table, row: Mapping[str, Any]) -> int:
    """Add a row. Returns its `seq`, if it has one."""
    names = tuple(row)
    return plain(connection).execute(_insertion(table, names), _stored(table, names, row.values())).lastrowid or 0


def insert_rows(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows that all have the same columns."""
    names = tuple(rows[0])
    text = _insertion(table, names)
    plain(connection).executemany(text, [_stored(table, names, row.values()) for row in rows])


def update_row(connection: Connection, table: Table, row_id: str, changed: Mapping[str, Any]) -> None:
    """Change columns of the row with this id."""
    names = tuple(changed)
    plain(connection).execute(_change(table, names), (*_stored(table, names, changed.values()), row_id))


def _stored(table: Table, names: tuple[str, ...], values: Iterable[Any]) -> list[Any]:
    stored = list(values)
    for place in _json_places(table, names):
        if stored[place] is not None:
            stored[place] = dump_json(stored[place])
    return stored


@cache
def json_names(table: Table, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the columns `names` whose values are JSON."""
    return tuple(name for name in names if isinstance(table.c[name].type, Json))


@cache
def _selection(
    table: Table, without: tuple[str, ...]
) -> tuple[str, tuple[str, ...], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    """Return the statement, the names of its columns, and what reads the values of some of them."""
    names = tuple(column.name for column in table.c if column.name not in without)
    readers: dict[type, Callable[[Any], Any]] = {Json: json.loads, Boolean: bool}
    read = tuple((name, readers[type(table.c[name].type)]) for name in names if type(table.c[name].type) in readers)
    return f"SELECT {_listed(names)} FROM {table.name} WHERE id = ?", names, read


@cache
def _insertion(table: Table, names: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({_listed(names)}) VALUES ({', '.join('?' for _ in names)})"


@cache
def _change(table: Table, names: tuple[str, ...]) -> str:
    return f"UPDATE {table.name} SET {', '.join(f'{_quoted(name)} = ?' for name in names)} WHERE id = ?"


@cache
def _json_places(table: Table, names: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(map(names.index, json_names(table, names)))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(name: str) -> str:
    return f'"{name}"'

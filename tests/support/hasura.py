"""Rows for every table, and a plain evaluation of Hasura's arguments on them, for comparison with a server."""

from __future__ import annotations

import functools
import random
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Integer, String, Table, insert, select, update

from flowherd_server.store.columns import DurationUs, Json, TimeUs, UuidText
from flowherd_server.store.database import Database
from flowherd_server.store.log_codes import LEVEL_COUNTERS, counter_of, level_code
from flowherd_server.store.microseconds import format_duration, format_time
from flowherd_server.store.postgres_functions import json_contains, json_has_keys, json_order
from flowherd_server.store.relationships import RELATIONSHIPS
from flowherd_server.store.tables import FLOW_RUN, LOG_LINE, TENANT, insertion_order, stored_tables
from flowherd_server.store.views import LOG, visible_tables

Row = Mapping[str, Any]

_ROWS = 7
_TEXTS = ["", "a", "A", "ab", "b%", "Running", "Failed", "é_x"]
_JSONS = [[], ["a"], ["a", "b"], {}, {"a": 1}, {"a": True, "b": ["x"]}, 1, True, "a", [[1], {"a": 1}], 2.5]


def fill(database: Database, seed: int) -> dict[str, list[Row]]:
    """Insert random rows into all tables; return those that GraphQL shows by table name, in their order."""
    chance = random.Random(seed)
    with database.writing() as connection:
        for table in stored_tables():
            for number in range(0 if table is TENANT else _ROWS):
                row = {c.name: _value(chance, c, number, connection) for c in table.c if _is_given(table, c)}
                # A row that repeats a unique value is left out.
                connection.execute(insert(table).prefix_with("OR IGNORE"), row)
        _fit_levels(connection)
    with database.reading() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(select(table).order_by(insertion_order(table))).mappings()
            ]
            for table in visible_tables()
        }


def _fit_levels(connection: Connection) -> None:
    """Write levels, and the counters of runs, as the server does for lines with these names of levels."""
    connection.execute(update(FLOW_RUN), dict.fromkeys(("log_lines", *LEVEL_COUNTERS), 0))
    for line in connection.execute(select(LOG.c.id, LOG.c.run, LOG.c.level)).all():
        code, name = level_code(line.level)
        connection.execute(update(LOG_LINE).where(LOG_LINE.c.id == line.id), {"level": code, "level_name": name})
        for counter in ("log_lines", counter_of(code)):
            more = {counter: FLOW_RUN.c[counter] + 1}
            connection.execute(update(FLOW_RUN).where(FLOW_RUN.c.seq == line.run).values(more))


def _is_given(table: Table, column: Column[Any]) -> bool:
    return column.computed is None and column.name != insertion_order(table)


def _value(chance: random.Random, column: Column[Any], number: int, connection: Any) -> Any:
    if column.name == "id":
        return str(uuid.UUID(int=chance.getrandbits(128)))
    if column.nullable and chance.random() < 0.3:
        return None
    for key in column.foreign_keys:
        return chance.choice(list(connection.execute(select(key.column)).scalars()))
    if column.name == "number":
        return number + 1
    if column.primary_key:
        return chance.choice(range(5))
    if column.unique:
        return f"{column.name} {number}"
    return chance.choice(values_of_kind(column))


def values_of_kind(column: Column[Any]) -> Sequence[Any]:
    """Return some values of a column of this kind, as they are stored."""
    if isinstance(column.type, UuidText):
        return [str(uuid.UUID(int=n)) for n in range(3)]
    if isinstance(column.type, (TimeUs, DurationUs)):
        return [0, 1, 1_700_000_000_000_001, 3_600_000_000]
    if isinstance(column.type, Json):
        return _JSONS
    if isinstance(column.type, Boolean):
        return [True, False]
    if isinstance(column.type, Integer):
        return [-1, 0, 1, 2, 10]
    assert isinstance(column.type, String), column
    return _TEXTS


def as_sent(column: Column[Any], value: Any) -> Any:
    """Return a stored value as a client writes it."""
    if value is None:
        return None
    if isinstance(column.type, TimeUs):
        return format_time(value)
    return format_duration(value) if isinstance(column.type, DurationUs) else value


def is_true(rows: Mapping[str, list[Row]], table: Table, row: Row, where: Mapping[str, Any]) -> bool | None:
    """Evaluate a condition, with values as they are stored, for a row; None is SQL's unknown."""
    return _all(_part(rows, table, row, key, value) for key, value in where.items())


def _part(rows: Mapping[str, list[Row]], table: Table, row: Row, key: str, value: Any) -> bool | None:
    if key == "_not":
        return _negated(is_true(rows, table, row, value))
    if key == "_and":
        return _all(is_true(rows, table, row, each) for each in value)
    if key == "_or":
        return _negated(_all(_negated(is_true(rows, table, row, each)) for each in value))
    if key in RELATIONSHIPS[table.name]:
        target = RELATIONSHIPS[table.name][key].target
        return any(is_true(rows, target, each, value) for each in related(rows, table, row, key))
    return _all(_compare(row[key], operator, operand) for operator, operand in value.items())


def related(rows: Mapping[str, list[Row]], table: Table, row: Row, name: str) -> list[Row]:
    """Return the rows that the relationship `name` leads to."""
    relationship = RELATIONSHIPS[table.name][name]
    key = row[relationship.source_column]
    found = rows[relationship.target.name]
    return [] if key is None else [each for each in found if each[relationship.target_column] == key]


def _all(values: Any) -> bool | None:
    found = list(values)
    return False if False in found else None if None in found else True


def _negated(value: bool | None) -> bool | None:
    return None if value is None else not value


def _compare(value: Any, operator: str, operand: Any) -> bool | None:
    if operator == "_is_null":
        return (value is None) is operand
    if operator in ("_in", "_nin"):
        found = any(json_order(value, each) == 0 for each in operand) if value is not None or not operand else None
        return found if operator == "_in" else _negated(found)
    if value is None:
        return None
    if operator in _ORDERED:
        return bool(_ORDERED[operator](json_order(value, operand)))
    return bool(_SPECIAL[operator](value, operand))


_ORDERED: dict[str, Any] = {
    "_eq": lambda order: order == 0,
    "_neq": lambda order: order != 0,
    "_lt": lambda order: order < 0,
    "_lte": lambda order: order <= 0,
    "_gt": lambda order: order > 0,
    "_gte": lambda order: order >= 0,
}


def _matches(text: str, pattern: str, flags: int = 0) -> bool:
    return re.fullmatch(re.escape(pattern).replace("%", ".*").replace("_", "."), text, re.DOTALL | flags) is not None


_SPECIAL: dict[str, Any] = {
    "_like": _matches,
    "_nlike": lambda text, pattern: not _matches(text, pattern),
    "_ilike": lambda text, pattern: _matches(text, pattern, re.IGNORECASE),
    "_nilike": lambda text, pattern: not _matches(text, pattern, re.IGNORECASE),
    "_contains": json_contains,
    "_contained_in": lambda value, whole: json_contains(whole, value),
    "_has_key": lambda value, key: json_has_keys(value, [key], True),
    "_has_keys_all": lambda value, keys: json_has_keys(value, keys, True),
    "_has_keys_any": lambda value, keys: json_has_keys(value, keys, False),
}


def ordered(rows: Sequence[Row], order_by: Sequence[tuple[str, str]]) -> list[Row]:
    """Sort rows by columns and order words, as PostgreSQL does; equal rows newest first if the last word is desc."""
    found = list(rows)
    if order_by and order_by[-1][1].startswith("desc"):
        found.reverse()
    for column, word in reversed(order_by):
        down = word.startswith("desc")
        nulls_first = word.endswith("nulls_first") if "nulls" in word else down

        found = _sorted(found, column, down, nulls_first)
    return found


def _sorted(rows: list[Row], column: str, down: bool, nulls_first: bool) -> list[Row]:
    def compare(one: Row, other: Row) -> int:
        order = json_order(one[column], other[column])
        return -order if down else order

    nulls = [row for row in rows if row[column] is None]
    others = sorted((row for row in rows if row[column] is not None), key=functools.cmp_to_key(compare))
    return nulls + others if nulls_first else others + nulls

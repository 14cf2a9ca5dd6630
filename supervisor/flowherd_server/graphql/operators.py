"""The operators of a comparison, as SQL over one column. Their logic is SQL's own with its three values."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    String,
    bindparam,
    cast,
    collate,
    false,
    func,
    not_,
    or_,
    select,
    true,
    type_coerce,
)

from flowherd_server.graphql.postgres_operators import JSON_COLLATION
from flowherd_server.store.tables import Json

Operator = Callable[[ColumnElement[Any], Any], ColumnElement[bool]]


def comparable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """`column` as something that compares and sorts by its value: JSON not as its text."""
    return collate(_json_text(column), JSON_COLLATION) if isinstance(column.type, Json) else column


def _json_text(column: ColumnElement[Any]) -> ColumnElement[str]:
    # SQLite stores what looks like a number as one, by the column's declared type.
    return cast(column, String)


def one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Whether `column` is one of `values`, however many."""
    if isinstance(column.type, Json):
        return or_(false(), *(comparable(column) == json.dumps(value) for value in values))
    # As one JSON parameter: a list may be longer than SQLite has room for parameters.
    listed = func.json_each(bindparam(None, json.dumps(list(values)))).table_valued("value").alias()
    return column.in_(select(listed.c.value))


def _compared(compare: Operator) -> Operator:
    def compiled(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
        if isinstance(column.type, Boolean):  # of which SQLAlchemy knows no order
            return compare(type_coerce(column, Integer), int(value))
        return compare(comparable(column), json.dumps(value) if isinstance(column.type, Json) else value)

    return compiled


def _in(column: ColumnElement[Any], values: Any) -> ColumnElement[bool]:
    listed = _listed(values)
    return one_of(column, listed) if listed else false()


def _not_in(column: ColumnElement[Any], values: Any) -> ColumnElement[bool]:
    listed = _listed(values)
    # Null too is none of none (Hasura compares with ALL of an array).
    return not_(one_of(column, listed)) if listed else true()


def _listed(value: Any) -> list[Any]:
    return [each for each in value if each is not None] if isinstance(value, list) else [value]


def _is_null(column: ColumnElement[Any], value: bool) -> ColumnElement[bool]:
    return column.is_(None) if value else column.is_not(None)


def _like(ignore_case: int) -> Operator:
    return lambda column, value: func.fh_like(column, value, ignore_case, type_=Boolean)


def _not(operator: Operator) -> Operator:
    return lambda column, value: not_(operator(column, value))


def _has_keys(needs_all: int) -> Operator:
    return lambda column, keys: func.fh_json_has_keys(
        _json_text(column), json.dumps(_listed(keys)), needs_all, type_=Boolean
    )


_OF_ALL: dict[str, Operator] = {
    "_eq": _compared(lambda column, value: column == value),
    "_neq": _compared(lambda column, value: column != value),
    "_lt": _compared(lambda column, value: column < value),
    "_lte": _compared(lambda column, value: column <= value),
    "_gt": _compared(lambda column, value: column > value),
    "_gte": _compared(lambda column, value: column >= value),
}
_OF_LISTS: dict[str, Operator] = {"_in": _in, "_nin": _not_in}
_OF_TEXTS: dict[str, Operator] = {
    "_like": _like(0),
    "_nlike": _not(_like(0)),
    "_ilike": _like(1),
    "_nilike": _not(_like(1)),
}
_OF_JSON: dict[str, Operator] = {
    "_contains": lambda column, part: func.fh_json_contains(_json_text(column), json.dumps(part), type_=Boolean),
    "_contained_in": lambda column, whole: func.fh_json_contains(json.dumps(whole), _json_text(column), type_=Boolean),
}
_OF_KEYS: dict[str, Operator] = {"_has_key": _has_keys(1), "_has_keys_all": _has_keys(1), "_has_keys_any": _has_keys(0)}

OPERATORS: dict[str, Operator] = {**_OF_ALL, **_OF_LISTS, "_is_null": _is_null, **_OF_TEXTS, **_OF_JSON, **_OF_KEYS}
#: Those that take a value of the column's own kind, and a list of such.
OF_VALUE, OF_LIST = tuple(_OF_ALL), tuple(_OF_LISTS)
#: Those of texts, and of JSON: with a JSON value, with one key, with a list of keys.
OF_TEXT, OF_JSON, OF_KEY, OF_KEYS = tuple(_OF_TEXTS), tuple(_OF_JSON), ("_has_key",), ("_has_keys_all", "_has_keys_any")

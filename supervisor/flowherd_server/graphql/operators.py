"""The operators of comparisons, as SQL over one column, with SQL's three-valued logic."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    String,
    and_,
    bindparam,
    cast,
    collate,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    type_coerce,
)

from flowherd_server.store.columns import Json
from flowherd_server.store.postgres_functions import JSON_COLLATION

Operator = Callable[[ColumnElement[Any], Any], ColumnElement[bool]]


def comparable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return an expression that compares and sorts `column` by its value: JSON as JSON, and not as text."""
    return collate(_json_text(column), JSON_COLLATION) if isinstance(column.type, Json) else column


def _json_text(column: ColumnElement[Any]) -> ColumnElement[str]:
    # SQLite stores JSON that looks like a number as a number, because of the column's declared type.
    return cast(column, String)


#: More values than there are states.
_FEW = 50


def one_of(column: ColumnElement[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that `column` is one of `values`, of any number."""
    if isinstance(column.type, Json):
        return or_(false(), *(comparable(column) == json.dumps(value) for value in values))
    if column.name == "state" and len(values) <= _FEW:  # told how many there are, SQLite takes the index of states
        return column.in_([literal(value, String) for value in values])
    return column.in_(select(listed_values(values).c.value))


def listed_values(values: Sequence[Any]) -> FromClause:
    """Return a table with a row for each of `values`, of any number, in the column `value`."""
    # As one JSON parameter, because SQLite limits the number of parameters.
    return func.json_each(bindparam(None, json.dumps(list(values)))).table_valued("value").alias()


def _compared(compare: Operator) -> Operator:
    def compiled(column: ColumnElement[Any], value: Any) -> ColumnElement[bool]:
        if isinstance(column.type, Boolean):  # SQLAlchemy does not order booleans
            return compare(type_coerce(column, Integer), int(value))
        return compare(comparable(column), json.dumps(value) if isinstance(column.type, Json) else value)

    return compiled


def _in(column: ColumnElement[Any], values: Any) -> ColumnElement[bool]:
    listed = _listed(values)
    return one_of(column, listed) if listed else false()


def _not_in(column: ColumnElement[Any], values: Any) -> ColumnElement[bool]:
    listed = _listed(values)
    # Null, too, is not in an empty list (Hasura compares with ALL of an array).
    return not_(one_of(column, listed)) if listed else true()


def _listed(value: Any) -> list[Any]:
    return [each for each in value if each is not None] if isinstance(value, list) else [value]


def _is_null(column: ColumnElement[Any], value: bool) -> ColumnElement[bool]:
    return column.is_(None) if value else column.is_not(None)


def _like(ignore_case: int) -> Operator:
    return lambda column, value: func.fh_like(column, value, ignore_case, type_=Boolean)


def _like_in_range(column: ColumnElement[Any], pattern: str) -> ColumnElement[bool]:
    """Return LIKE with the range of texts that begin as the pattern does, for which an index can be used."""
    beginning = re.match(r"[^%_\\]*", pattern)
    matches = _like(0)(column, pattern)
    if not beginning or not beginning[0]:
        return matches
    # No text with this beginning sorts after it with the greatest character.
    return and_(column >= beginning[0], column <= beginning[0] + "\U0010ffff" * 2, matches)


def _not(operator: Operator) -> Operator:
    return lambda column, value: not_(operator(column, value))


def _has_keys(needs_all: int) -> Operator:
    return lambda column, keys: func.fh_json_has_keys(
        _json_text(column), json.dumps(_listed(keys)), needs_all, type_=Boolean
    )


_BY_VALUE: dict[str, Operator] = {
    "_eq": _compared(lambda column, value: column == value),
    "_neq": _compared(lambda column, value: column != value),
    "_lt": _compared(lambda column, value: column < value),
    "_lte": _compared(lambda column, value: column <= value),
    "_gt": _compared(lambda column, value: column > value),
    "_gte": _compared(lambda column, value: column >= value),
}
_BY_LIST: dict[str, Operator] = {"_in": _in, "_nin": _not_in}
_BY_PATTERN: dict[str, Operator] = {
    "_like": _like_in_range,
    "_nlike": _not(_like(0)),
    "_ilike": _like(1),
    "_nilike": _not(_like(1)),
}
_BY_JSON: dict[str, Operator] = {
    "_contains": lambda column, part: func.fh_json_contains(_json_text(column), json.dumps(part), type_=Boolean),
    "_contained_in": lambda column, whole: func.fh_json_contains(json.dumps(whole), _json_text(column), type_=Boolean),
}
_BY_KEYS: dict[str, Operator] = {"_has_key": _has_keys(1), "_has_keys_all": _has_keys(1), "_has_keys_any": _has_keys(0)}

OPERATORS: dict[str, Operator] = {
    **_BY_VALUE,
    **_BY_LIST,
    "_is_null": _is_null,
    **_BY_PATTERN,
    **_BY_JSON,
    **_BY_KEYS,
}
#: Operators that take a value of the column's own type, and those that take a list of such values.
VALUE_OPERATORS, LIST_OPERATORS = tuple(_BY_VALUE), tuple(_BY_LIST)
#: Operators of text columns; of JSON columns with a JSON value, with one key, with a list of keys.
TEXT_OPERATORS, JSON_OPERATORS = tuple(_BY_PATTERN), tuple(_BY_JSON)
KEY_OPERATORS, KEYS_OPERATORS = ("_has_key",), ("_has_keys_all", "_has_keys_any")

"""SQL functions that Postgres has and SQLite lacks: its LIKE, and the operators and sort order of jsonb. Pure.

As usual in SQL, a function of null is null.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

#: The collation under which JSON text compares as jsonb does.
JSON_COLLATION = "fh_json"


def add_postgres_functions(connection: sqlite3.Connection) -> None:
    """Define the functions and the collation in `connection`."""
    for name, count, function in _FUNCTIONS:
        connection.create_function(name, count, function, deterministic=True)
    connection.create_collation(JSON_COLLATION, _text_order)


def json_order(one: Any, other: Any) -> int:
    """Compare as jsonb does. Returns a number below, at or above 0.

    Objects are greater than arrays, those than booleans, then numbers, strings and null. Of two objects or arrays, the
    longer one is greater.
    """
    kind = _kind(one)
    if kind != _kind(other):
        return kind - _kind(other)
    if not isinstance(one, (dict, list)):
        return 0 if one is None else (one > other) - (one < other)
    if len(one) != len(other):
        return len(one) - len(other)
    ones, others = _parts(one), _parts(other)
    return next((order for order in map(json_order, ones, others) if order), 0)


def _kind(value: Any) -> int:
    if isinstance(value, bool):  # before numbers, because Python's booleans are numbers
        return 3
    return next(rank for rank, kind in enumerate(_KINDS) if isinstance(value, kind))


_KINDS: tuple[Any, ...] = (type(None), str, (int, float), bool, list, dict)


def _parts(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    keys = sorted(value, key=lambda key: (len(key.encode()), key))  # the order in which jsonb stores keys
    return [part for key in keys for part in (key, value[key])]


def json_contains(whole: Any, part: Any) -> bool:
    """Return `whole @> part`. An array also contains a bare scalar that is one of its elements, unless it is nested."""
    if isinstance(whole, list) and not isinstance(part, (list, dict)):
        part = [part]
    return _contains(whole, part)


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, dict):
        return isinstance(part, dict) and all(k in whole and _contains(whole[k], part[k]) for k in part)
    if isinstance(whole, list):
        return isinstance(part, list) and all(any(_contains(w, p) for w in whole) for p in part)
    return json_order(whole, part) == 0


def json_has_keys(value: Any, keys: list[str], needs_all: bool) -> bool:
    """Return `value ?& keys` or `value ?| keys`: for keys of an object, strings in an array, or a single string."""
    found = value if isinstance(value, (dict, list)) else [value]
    return (all if needs_all else any)(key in found for key in keys)


def like(text: str, pattern: str, ignore_case: bool) -> bool:
    """Return LIKE or ILIKE. SQLite's own LIKE always ignores the case of ASCII letters.

    Goes through the text once: of a part between two "%", the first place that fits is as good as any later one. One
    regular expression for the whole pattern would go back for each "%".
    """
    first, *others = _parts_of_like(pattern, ignore_case)
    if not first.pattern.match(text):
        return False
    if not others:
        return len(text) == first.width
    position = first.width
    for part in others[:-1]:
        found = part.pattern.search(text, position)
        if found is None:
            return False
        position = found.end()
    start = len(text) - others[-1].width
    return start >= position and others[-1].pattern.match(text, start) is not None


class _Part(NamedTuple):
    """What stands between two "%" of a pattern; it fits `width` characters."""

    pattern: re.Pattern[str]
    width: int


@lru_cache(maxsize=64)
def _parts_of_like(pattern: str, ignore_case: bool) -> list[_Part]:
    parts: list[list[str]] = [[]]
    for symbol in re.findall(r"\\.|.", pattern, re.DOTALL):
        if symbol == "%":
            parts.append([])
        else:
            parts[-1].append("." if symbol == "_" else re.escape(symbol[-1]))
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return [_Part(re.compile("".join(part), flags), len(part)) for part in parts]


def _text_order(one: str, other: str) -> int:
    return 0 if one == other else json_order(json.loads(one), json.loads(other))


def _null_for_null(function: Callable[..., bool], json_count: int) -> Callable[..., bool | None]:
    """Return `function` as a function of SQL values, of which the first `json_count` are JSON text."""

    def called(*values: Any) -> bool | None:
        if None in values:
            return None
        return function(*map(json.loads, values[:json_count]), *values[json_count:])

    return called


_FUNCTIONS: tuple[tuple[str, int, Callable[..., bool | None]], ...] = (
    ("fh_json_contains", 2, _null_for_null(json_contains, 2)),
    ("fh_json_has_keys", 3, _null_for_null(lambda value, keys, every: json_has_keys(value, keys, bool(every)), 2)),
    ("fh_like", 3, _null_for_null(lambda text, pattern, ignore: like(text, pattern, bool(ignore)), 0)),
)

"""GraphQL input values written into the text of a query.

Filters are written inline because servers of this dialect name their filter types differently, so that a variable's
type could not be declared in a way that all of them take.
"""

from __future__ import annotations

import json
from typing import Any


class Word(str):
    """An enum value: written without quotes."""


def literal(value: Any) -> str:
    """`value` (dicts, lists, strings, numbers, booleans, None, `Word`) as GraphQL text."""
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    # A GraphQL string has JSON's escapes (specification of October 2021, 2.9.4).
    return json.dumps(value, ensure_ascii=False)


def arguments(**values: Any) -> str:
    """The arguments of one field, those that are None left out; nothing when there are none."""
    given = [f"{name}: {literal(value)}" for name, value in values.items() if value is not None]
    return f"({', '.join(given)})" if given else ""

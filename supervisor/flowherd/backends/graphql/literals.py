"""Write GraphQL input values into the text of a query.

Filters are written inline because the servers of this API name their filter types differently, so no declaration of a
variable's type would suit all of them.
"""

from __future__ import annotations

import json
from typing import Any


class Word(str):
    """An enum value: written without quotes."""


def literal(value: Any) -> str:
    """Return `value` (dict, list, string, number, boolean, None, `Word`) as GraphQL text."""
    if isinstance(value, Word):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    # GraphQL strings have JSON's escapes (specification of October 2021, 2.9.4).
    return json.dumps(value, ensure_ascii=False)


def arguments(**values: Any) -> str:
    """Return the arguments of one field in parentheses, without those that are None; empty if there are none."""
    given = [f"{name}: {literal(value)}" for name, value in values.items() if value is not None]
    return f"({', '.join(given)})" if given else ""

"""From the text of an environment variable, or of a file that holds text, to the value that a setting has.

Prefect read its environment as Python literals, other programs write JSON, people write commas: all three are read.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from flowherd.config.catalogue import Leaf, Shape

_NOTHING = frozenset({"", "none", "null"})


def from_text(leaf: Leaf, text: str) -> Any:
    """What `text` means for this setting; a scalar's type is left to the model.

    Raises ValueError, with what is allowed, when a list or mapping cannot be read out of it.
    """
    if leaf.optional and text.strip().lower() in _NOTHING:
        return None
    if leaf.shape is Shape.LIST:
        return _list(text)
    if leaf.shape is Shape.MAPPING:
        return _mapping(text)
    return text


def plain(leaf: Leaf, value: Any) -> Any:
    """`value` as a file has it: text where a list or mapping is wanted is read, numbers in a mapping become text."""
    if isinstance(value, str):
        return from_text(leaf, value)
    if leaf.shape is Shape.MAPPING and isinstance(value, dict):
        return {str(name): _as_text(item) for name, item in value.items()}
    return value


def _list(text: str) -> list[Any]:
    value = _structured(text, "[(") if text.strip() else []
    if value is None:
        return [item.strip() for item in text.split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError('a list is a JSON or Python list, or items with commas between: ["a", "b"] or a,b')
    return list(value)


def _mapping(text: str) -> dict[str, Any]:
    value = _structured(text, "{") if text.strip() else {}
    if value is None:
        return _pairs(text)
    if not isinstance(value, dict):
        raise ValueError('pairs are a JSON object, a Python dict, or K=V with commas between: {"A": "1"} or A=1,B=2')
    return {str(name): _as_text(item) for name, item in value.items()}


def _pairs(text: str) -> dict[str, Any]:
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise ValueError("pairs are K=V with commas between, or a JSON object where a value holds a comma")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _structured(text: str, openings: str) -> Any:
    """The JSON or Python value in `text`; None when it does not begin like one."""
    if text.strip()[0] not in openings:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("it begins like a JSON or Python value and is none") from None


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value

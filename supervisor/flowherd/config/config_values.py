"""Reads settings from text: the value of an environment variable, or text in a file where a list or mapping belongs.

Prefect read its environment as Python literals, other programs write JSON, people write commas: all three are accepted.
"""

from __future__ import annotations

import ast
import json
from typing import Any

from flowherd.config.catalogue import SettingInfo, Shape

_NOTHING = frozenset({"", "none", "null"})


def from_text(setting: SettingInfo, text: str) -> Any:
    """Return the value that `text` means for this setting; a scalar stays text, which the model converts.

    Raises ValueError, with what is allowed, if `text` is not the list or mapping that it should be.
    """
    if setting.optional and text.strip().lower() in _NOTHING:
        return None
    if setting.shape is Shape.LIST:
        return _list(text)
    if setting.shape is Shape.MAPPING:
        return _mapping(text)
    return text


def from_value(setting: SettingInfo, value: Any) -> Any:
    """Return a value from a file or an argument as the model expects it.

    Text is read as by `from_text`; numbers and booleans in a mapping become text.
    """
    if isinstance(value, str):
        return from_text(setting, value)
    if setting.shape is Shape.MAPPING and isinstance(value, dict):
        return {str(name): _as_text(item) for name, item in value.items()}
    return value


def _list(text: str) -> list[Any]:
    value = _structured(text, "[(") if text.strip() else []
    if value is None:
        return [item.strip() for item in text.split(",") if item.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError('a list is a JSON or Python list, or items separated by commas: ["a", "b"] or a,b')
    return list(value)


def _mapping(text: str) -> dict[str, Any]:
    value = _structured(text, "{") if text.strip() else {}
    if value is None:
        return _pairs(text)
    if not isinstance(value, dict):
        raise ValueError('pairs are a JSON object, a Python dict, or K=V separated by commas: {"A": "1"} or A=1,B=2')
    return {str(name): _as_text(item) for name, item in value.items()}


def _pairs(text: str) -> dict[str, Any]:
    pairs = [item.partition("=") for item in text.split(",") if item.strip()]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise ValueError("pairs are K=V separated by commas, or a JSON object if a value contains a comma")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _structured(text: str, openings: str) -> Any:
    """Return the JSON or Python value in `text`; None if it does not begin like one."""
    if text.strip()[0] not in openings:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise ValueError("it begins like a JSON or Python value but is not one") from None


def _as_text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value

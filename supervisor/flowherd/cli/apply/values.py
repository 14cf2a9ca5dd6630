"""The kinds of values in a project file. Each reader returns the value as it is used, or raises ValueError."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, TypeVar

from flowherd.cli import parse_options
from flowherd.cli.failures import CommandError

T = TypeVar("T")


def a_text(value: Any) -> str:
    """Return a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text in quotes that is not empty")
    return value


def texts(value: Any) -> list[str]:
    """Return a list of texts that are not empty."""
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise ValueError('must be a list of texts, such as ["one", "two"]')
    return value


def an_argv(value: Any) -> list[str]:
    """Return a program with its arguments, which may be empty."""
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value) or not value[0]:
        raise ValueError('must be a list of texts, the program and its arguments, such as ["echo", "hello"]')
    return value


def texts_by_name(value: Any) -> dict[str, str]:
    """Return a table of texts."""
    if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
        raise ValueError('must be a table of texts, such as { NAME = "value" }')
    return dict(value)


def values_by_name(value: Any) -> dict[str, Any]:
    """Return a table of values that JSON can hold."""
    if not isinstance(value, Mapping):
        raise ValueError('must be a table, such as { name = "world", count = 3 }')
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError("must have only texts, numbers, true, false, lists and tables; quote a date") from None
    return dict(value)


def a_switch(value: Any) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def a_count(value: Any) -> int:
    """Return a whole number of at least one."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError("must be a whole number, 1 or more")
    return value


def a_number(value: Any) -> float:
    """Return a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("must be a number")
    return value


def seconds(value: Any) -> float:
    """Return the seconds of "1h30m" or 90."""
    return _parsed(value, parse_options.duration_s, 'a duration; write it as 90, "90s", "10m", "1h30m" or "2d"')


def whole_seconds(value: Any) -> int:
    """Return the seconds of a duration, at least one."""
    return max(1, round(seconds(value)))


def size(value: Any) -> int:
    """Return the bytes of "200M" or 4096."""
    return _parsed(value, parse_options.size_bytes, 'a size; write it as 4096, "200M" or "1.5G"')


def a_time(value: Any) -> str:
    """Return a time or day as ISO 8601 text; TOML has kinds of its own for both."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    if not isinstance(value, str):
        raise ValueError("must be a day or a time, such as 2030-01-31 or 2030-01-31T08:00:00")
    return value


def _parsed(value: Any, parse: Callable[[str, str], T], what: str) -> T:
    written = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    try:
        return parse(a_text(written), "")
    except (CommandError, ValueError):
        raise ValueError(f"{value!r} is not {what}") from None

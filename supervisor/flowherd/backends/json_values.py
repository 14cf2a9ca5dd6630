"""Values out of a server's answer, each checked for its type: what comes from outside may have any shape.

Every function raises ValueError, TypeError or KeyError for what is not of the dialect; the caller says what it means.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flowherd.times import read_time

#: What reading a value of another shape raises.
NOT_THE_DIALECT = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_TOKEN = re.compile(r"[!-~]{1,200}")


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"no object: {value!r:.80}")
    return value


def mapping_or_none(value: Any) -> Mapping[str, Any] | None:
    """A JSON object, or null."""
    return None if value is None else mapping(value)


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """A list of JSON objects; null is an empty one."""
    return [mapping(item) for item in sequence(value)]


def sequence(value: Any) -> list[Any]:
    """A list; null is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f"no list: {value!r:.80}")
    return value


def text(value: Any) -> str:
    """A text that can be stored and sent on."""
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r:.80}")
    value.encode()  # halves of characters, which JSON can hold, raise UnicodeEncodeError, a ValueError
    return value


def text_or_none(value: Any) -> str | None:
    """A text, or null."""
    return None if value is None else text(value)


def whole(value: Any) -> int:
    """A whole number that a 64-bit column can hold."""
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise TypeError(f"no whole number: {value!r:.80}")
    return value


def whole_or_none(value: Any) -> int | None:
    """A whole number, or null."""
    return None if value is None else whole(value)


def header_value(value: Any) -> str:
    """A text that can travel in an HTTP header or in a path without meaning anything else there."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError(f"no plain word: {value!r:.80}")
    return value


def time_or_none(value: Any) -> datetime | None:
    """An ISO 8601 time, UTC where it says nothing; None for anything else, for no run waits for it here."""
    with contextlib.suppress(TypeError, ValueError):
        return read_time(value, naive="utc")
    return None

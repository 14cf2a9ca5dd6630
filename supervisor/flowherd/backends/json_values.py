"""Read typed values from a server's JSON, which may have any shape.

Every function raises one of DECODING_ERRORS if the value has another type; the caller decides what that means.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from flowherd.times import read_time

#: What reading a value of an unexpected shape can raise.
DECODING_ERRORS = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_TOKEN = re.compile(r"[!-~]{1,200}")


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object."""
    if not isinstance(value, dict):
        raise TypeError(f"not an object: {value!r:.80}")
    return value


def mapping_or_none(value: Any) -> Mapping[str, Any] | None:
    """Return a JSON object, or None for null."""
    return None if value is None else mapping(value)


def mappings(value: Any) -> list[Mapping[str, Any]]:
    """Return a list of JSON objects; null is an empty list."""
    return [mapping(item) for item in sequence(value)]


def mappings_not_null(value: Any) -> list[Mapping[str, Any]]:
    """Return a list of JSON objects; null is an error.

    For lists of runs: null read as an empty list would hide runs that exist.
    """
    if value is None:
        raise TypeError("null in place of a list")
    return mappings(value)


def sequence(value: Any) -> list[Any]:
    """Return a list; null is an empty list."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise TypeError(f"not a list: {value!r:.80}")
    return value


def text(value: Any) -> str:
    """Return a string that can be stored and sent on."""
    if not isinstance(value, str):
        raise TypeError(f"not a string: {value!r:.80}")
    value.encode()  # lone surrogates, which JSON can hold, raise UnicodeEncodeError, a ValueError
    return value


def text_or_none(value: Any) -> str | None:
    """Return a string, or None for null."""
    return None if value is None else text(value)


def integer(value: Any) -> int:
    """Return an integer that a 64-bit column can hold."""
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise TypeError(f"not an integer of 64 bits: {value!r:.80}")
    return value


def integer_or_none(value: Any) -> int | None:
    """Return an integer, or None for null."""
    return None if value is None else integer(value)


def header_value(value: Any) -> str:
    """Return a string that is safe in an HTTP header and as one segment of a path."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError(f"not a plain word: {value!r:.80}")
    return value


def uuid_or_none(value: Any) -> UUID | None:
    """Return a UUID; None for anything else."""
    with contextlib.suppress(TypeError, ValueError, AttributeError):
        return UUID(value)
    return None


def time_or_none(value: Any) -> datetime | None:
    """Return an ISO 8601 time, in UTC unless it has an offset; None for anything else, since no run depends on it."""
    with contextlib.suppress(TypeError, ValueError):
        return read_time(value, naive="utc")
    return None

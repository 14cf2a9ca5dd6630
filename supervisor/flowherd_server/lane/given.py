"""What a request of the lane says, read with checks: each function raises BadRequest if it is something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

Given = Mapping[str, Any]
T = TypeVar("T")


class BadRequest(Exception):
    """A request that the protocol does not allow."""


def text(given: Given, name: str) -> str:
    """Return a text."""
    value = given.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be a text")
    return value


def texts(given: Given, name: str) -> list[str]:
    """Return a list of texts; empty if there is none."""
    return _list(given, name, str, "texts")


def objects(given: Given, name: str) -> list[dict[str, Any]]:
    """Return a list of objects; empty if there is none."""
    return _list(given, name, dict, "objects")


def number_or_none(given: Given, name: str) -> int | None:
    """Return a whole number that SQLite can hold, or None."""
    value = given.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not -(1 << 63) <= value < 1 << 63:
        raise BadRequest(f"{name} must be a whole number of at most 64 bits, or null")
    return value


def uuid(given: Given, name: str) -> str:
    """Return a UUID as it is stored."""
    found = uuid_or_none(given, name)
    if found is None:
        raise BadRequest(f"{name} must be a UUID")
    return found


def uuid_or_none(given: Given, name: str) -> str | None:
    """Return a UUID as it is stored, or None."""
    value = given.get(name)
    return None if value is None else _uuid(value, name)


def uuids(given: Given, name: str) -> list[str]:
    """Return a list of UUIDs as they are stored; empty if there is none."""
    return [_uuid(each, name) for each in texts(given, name)]


def _list(given: Given, name: str, kind: type[T], kinds: str) -> list[T]:
    value = given.get(name)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, kind) for each in value):
        raise BadRequest(f"{name} must be a list of {kinds}")
    return value


def _uuid(value: Any, name: str) -> str:
    try:
        return str(UUID(value))
    except (ValueError, AttributeError, TypeError):
        raise BadRequest(f"{name}: {str(value)[:50]!r} is no UUID") from None

"""The dialect's scalars. Hasura's tables and the mutations use different names for the same things, so both exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from graphql import GraphQLError, GraphQLScalarType
from graphql.type import GraphQLBoolean, GraphQLInt, GraphQLString
from sqlalchemy import Boolean, Column, Integer, String

from flowherd_server.store.columns import DurationUs, Json, TimeUs, UuidText
from flowherd_server.store.microseconds import format_duration, format_time, parse_duration, parse_time
from flowherd_server.store.views import LOG


def parse_uuid(value: Any) -> str:
    """Return a UUID as lower-case text with hyphens. Raises GraphQLError if `value` is not one."""
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise GraphQLError(f"not a UUID: {value!r}") from None


def _parser(kind: str, parse: Callable[[Any], int]) -> Callable[[Any], int]:
    """Return `parse` with a GraphQLError that names the `kind` of value, for what it cannot parse."""

    def parse_input(value: Any) -> int:
        try:
            return parse(value)
        except (ValueError, TypeError):
            raise GraphQLError(f"not {kind}: {value!r}") from None

    return parse_input


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise ValueError(value)
    return value


def _unchanged(value: Any) -> Any:
    return value


def _unless_text(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return `show` for values that may have been shown already, as those in rows have."""
    return lambda value: value if isinstance(value, str) else show(value)


def _uuid(name: str) -> GraphQLScalarType:
    return GraphQLScalarType(name, coerce_output_value=_unchanged, coerce_input_value=parse_uuid)


def _time(name: str) -> GraphQLScalarType:
    return GraphQLScalarType(
        name,
        description="ISO 8601; without an offset it is UTC.",
        coerce_output_value=_unless_text(format_time),
        coerce_input_value=_parser("an ISO 8601 time", parse_time),
    )


def _json(name: str) -> GraphQLScalarType:
    return GraphQLScalarType(
        name,
        description="Any JSON value, as itself and not as text.",
        coerce_output_value=_unchanged,
        coerce_input_value=_unchanged,
    )


#: Scalars of the tables.
TABLE_UUID, TABLE_TIME, TABLE_JSON = _uuid("uuid"), _time("timestamptz"), _json("jsonb")
BIGINT = GraphQLScalarType(
    "bigint", coerce_output_value=_unchanged, coerce_input_value=_parser("a 64-bit integer", _integer)
)
INTERVAL = GraphQLScalarType(
    "interval",
    description="HH:MM:SS.ffffff",
    coerce_output_value=_unless_text(format_duration),
    coerce_input_value=_parser("a duration as HH:MM:SS", parse_duration),
)
#: Scalars of the mutations.
UUID_INPUT, TIME_INPUT, JSON_INPUT = _uuid("UUID"), _time("DateTime"), _json("JSON")

_BY_COLUMN_TYPE = (
    (UuidText, TABLE_UUID),
    (TimeUs, TABLE_TIME),
    (DurationUs, INTERVAL),
    (Json, TABLE_JSON),
    (Boolean, GraphQLBoolean),
    (Integer, GraphQLInt),
    (String, GraphQLString),
)


def scalar_of(column: Column[Any]) -> GraphQLScalarType:
    """Return the scalar of `column`."""
    if column is LOG.c.id:  # there may be more lines than a 32-bit Int can count
        return BIGINT
    return next(scalar for kind, scalar in _BY_COLUMN_TYPE if isinstance(column.type, kind))


#: What makes a stored value one of JSON, by scalar; the others are stored as they are shown.
_SHOWN: Mapping[str, Callable[[Any], str]] = {TABLE_TIME.name: format_time, INTERVAL.name: format_duration}


def shown(column: Column[Any]) -> Callable[[Any], str] | None:
    """Return the function from a value of `column` to the value in answers; None if they are the same."""
    return _SHOWN.get(scalar_of(column).name)

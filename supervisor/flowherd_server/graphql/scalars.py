"""The dialect's scalars. Hasura's tables and the mutations had different names for the same things; both exist."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from graphql import GraphQLError, GraphQLScalarType
from graphql.type import GraphQLBoolean, GraphQLInt, GraphQLString
from sqlalchemy import Boolean, Column, Integer, String

from flowherd_server.store.tables import LOG, DurationUs, Json, TimeUs, UuidText
from flowherd_server.store.times import format_duration, format_time, parse_duration, parse_time


def parse_uuid(value: Any) -> str:
    """A UUID in its usual form. Raises GraphQLError when `value` is none."""
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise GraphQLError(f"not a UUID: {value!r}") from None


def _parse_time(value: Any) -> int:
    try:
        return parse_time(value)
    except (ValueError, TypeError):
        raise GraphQLError(f"not an ISO 8601 time: {value!r}") from None


def _parse_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise GraphQLError(f"not a 64-bit integer: {value!r}")
    return value


def _parse_interval(value: Any) -> int:
    try:
        return parse_duration(value)
    except (ValueError, TypeError):
        raise GraphQLError(f"not a span of time as HH:MM:SS: {value!r}") from None


def _as_it_is(value: Any) -> Any:
    return value


def _uuid(name: str) -> GraphQLScalarType:
    return GraphQLScalarType(name, coerce_output_value=_as_it_is, coerce_input_value=parse_uuid)


def _time(name: str) -> GraphQLScalarType:
    return GraphQLScalarType(
        name,
        description="ISO 8601; without an offset it is UTC.",
        coerce_output_value=format_time,
        coerce_input_value=_parse_time,
    )


def _json(name: str) -> GraphQLScalarType:
    return GraphQLScalarType(
        name,
        description="Any JSON value, as itself and not as text.",
        coerce_output_value=_as_it_is,
        coerce_input_value=_as_it_is,
    )


#: Of the tables.
TABLE_UUID, TABLE_TIME, TABLE_JSON = _uuid("uuid"), _time("timestamptz"), _json("jsonb")
BIGINT = GraphQLScalarType("bigint", coerce_output_value=_as_it_is, coerce_input_value=_parse_integer)
INTERVAL = GraphQLScalarType(
    "interval",
    description="HH:MM:SS.ffffff",
    coerce_output_value=format_duration,
    coerce_input_value=_parse_interval,
)
#: Of the mutations.
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
    """The scalar that shows `column`."""
    if column is LOG.c.id:  # more lines than a 32-bit Int can number
        return BIGINT
    return next(scalar for kind, scalar in _BY_COLUMN_TYPE if isinstance(column.type, kind))

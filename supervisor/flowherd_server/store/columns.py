"""Column types of the server's tables, and the groups of columns that several tables share.

Column(info={"hidden": True}) keeps a column out of GraphQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Integer, String, Table


class UuidText(String):
    """A UUID as lower-case text with hyphens."""


class TimeUs(BigInteger):
    """A point in time, in microseconds since the epoch (microseconds.py)."""


class DurationUs(BigInteger):
    """A span of time in microseconds."""


class Json(JSON):
    """A JSON value; None is SQL's NULL."""

    def __init__(self) -> None:
        super().__init__(none_as_null=True)


def key_columns() -> tuple[Column[Any], ...]:
    """Return the columns that most tables begin with."""
    # `seq` orders rows that no order_by decides; a UUID would not give the order of insertion.
    return (
        Column("seq", Integer, primary_key=True, info={"hidden": True}),
        Column("id", UuidText, nullable=False, unique=True),
    )


def reference_column(name: str, target: str, nullable: bool = False) -> Column[str]:
    """Return a column with the id of a row of the table `target`, which is deleted together with that row."""
    return Column(name, UuidText, ForeignKey(f"{target}.id", ondelete="CASCADE"), nullable=nullable)


def time_column(name: str, nullable: bool = True) -> Column[int]:
    """Return a column with a point in time."""
    return Column(name, TimeUs, nullable=nullable)


def latest_state() -> tuple[Column[Any], ...]:
    """Return the columns of a flow run or task run that repeat its latest state."""
    return (
        Column("version", Integer, nullable=False),
        Column("state", String, nullable=False),
        Column("serialized_state", Json, nullable=False),
        Column("state_message", String),
        time_column("state_timestamp", nullable=False),
        time_column("state_start_time"),
        time_column("start_time"),
        time_column("end_time"),
    )


def recorded_state() -> tuple[Column[Any], ...]:
    """Return the columns of one state in the history of a flow run or task run, without its keys."""
    return (
        Column("state", String, nullable=False),
        time_column("timestamp", nullable=False),
        time_column("start_time"),
        Column("message", String),
        Column("serialized_state", Json, nullable=False),
        time_column("created", nullable=False),
    )


def schedule_switch() -> tuple[Column[Any], ...]:
    """Return the columns of a flow that say who switched its schedule on or off last, and when."""
    return (Column("schedule_by", String), time_column("schedule_since"))


def visible_columns(table: Table) -> list[Column[Any]]:
    """Return the columns of `table` that GraphQL shows."""
    return [column for column in table.c if not column.info.get("hidden")]

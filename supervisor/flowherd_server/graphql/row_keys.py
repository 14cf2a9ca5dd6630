"""Splitting a query for the first rows in some order into one for each value of a column.

"The newest ten of the failed and the timed out runs" has to sort all of these, however many there are. The newest ten
of each state are the first ten of an index by state and time, and it is enough to sort those. The same holds for "the
newest run of each flow". Knows no GraphQL type and no connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import FromClause, Table, func, select

from flowherd_server.graphql.arguments import Arguments, Parents, natural
from flowherd_server.graphql.conditions import compile_where
from flowherd_server.graphql.operators import listed_values
from flowherd_server.store.relationships import RELATIONSHIPS, Relationship

#: Columns with few different values, in which these can be found by leaping from one to the next.
_FEW_VALUES = frozenset({("flow_run", "flow_id"), ("flow_run", "state")})
#: Maximum number of values to take rows of one by one.
_MOST_VALUES = 100


@dataclass(frozen=True, kw_only=True)
class RowKeys:
    """Values of a column, and which rows to take for each of them and of all together."""

    column: str
    #: A table with a column `value`; no value is in it twice.
    values: FromClause
    #: What else must hold for a row.
    where: Mapping[str, Any] | None
    #: Number of rows for each value, and how many to leave out before.
    limit_each: int | None
    offset_each: int = 0
    #: The same for the rows of all values together.
    limit: int | None = None
    offset: int = 0


def keys_of_parents(arguments: Arguments, parents: Parents) -> RowKeys | None:
    """Return the keys of rows that are limited for each parent; None if there is one parent, or no limit."""
    limit, offset = natural("limit", arguments.limit), natural("offset", arguments.offset) or 0
    if len(parents.keys) == 1 or arguments.distinct_on or (limit is None and not offset):
        return None
    return RowKeys(
        column=parents.column,
        values=listed_values(parents.keys),
        where=arguments.where,
        limit_each=limit,
        offset_each=offset,
    )


def keys_of_rows(table: Table, arguments: Arguments) -> RowKeys | None:
    """Return the keys by which a query without parents can be split; None if there are none."""
    limit, offset = natural("limit", arguments.limit), natural("offset", arguments.offset) or 0
    if arguments.distinct_on:
        return _distinct(table, arguments, limit, offset)
    if limit is None:
        return None
    where = arguments.where or {}
    for key in where:
        values = _values_of(table, key, where[key], arguments)
        if values is not None:
            column, found = values
            rest = {name: value for name, value in where.items() if name != key}
            return RowKeys(
                column=column, values=found, where=rest, limit_each=limit + offset, limit=limit, offset=offset
            )
    return None


def _distinct(table: Table, arguments: Arguments, limit: int | None, offset: int) -> RowKeys | None:
    column = arguments.distinct_on[0]
    if len(arguments.distinct_on) != 1 or (table.name, column) not in _FEW_VALUES:
        return None
    if not _is_indexed(table, column, arguments):
        return None
    first, following = table.alias(), table.alias()
    found = select(func.min(first.c[column]).label("value")).cte(recursive=True)
    next_value = select(func.min(following.c[column])).where(following.c[column] > found.c.value)
    found = found.union_all(select(next_value.scalar_subquery()).where(found.c.value.is_not(None)))
    return RowKeys(column=column, values=found, where=arguments.where, limit_each=1, limit=limit, offset=offset)


def _values_of(table: Table, key: str, condition: Any, arguments: Arguments) -> tuple[str, FromClause] | None:
    """Return the column that one key of `where` gives some values of, and these values."""
    if condition is None or key.startswith("_"):
        return None
    relationship = RELATIONSHIPS[table.name].get(key)
    if relationship is None:
        values = condition.get("_in")
        if condition.keys() != {"_in"} or not isinstance(values, list) or not 1 < len(values) <= _MOST_VALUES:
            return None
        values = list(dict.fromkeys(value for value in values if value is not None))
        return (key, listed_values(values)) if _is_indexed(table, key, arguments) else None
    if relationship.many or not _is_indexed(table, relationship.source_column, arguments):
        return None
    return _related_values(relationship, condition)


def _related_values(relationship: Relationship, condition: Mapping[str, Any]) -> tuple[str, FromClause] | None:
    if not _names_a_row(relationship.target, condition):
        return None
    target = relationship.target.alias()
    found = select(target.c[relationship.target_column].label("value"))
    found = found.where(compile_where(relationship.target, target, condition))
    return relationship.source_column, found.subquery()


def _names_a_row(table: Table, condition: Any) -> bool:
    """Return whether the condition can hold for few rows only, because it states the name or id."""
    alternatives = condition if isinstance(condition, list) else [condition]
    return any(
        each.get(name) and each[name].get("_eq") is not None for each in alternatives for name in ("id", "name")
    ) or any(each.get("_and") and _names_a_row(table, each["_and"]) for each in alternatives)


def _is_indexed(table: Table, column: str, arguments: Arguments) -> bool:
    """Return whether the rows with one value of `column` can be read from an index in the order that is asked for."""
    order = _order_columns(arguments.order_by)
    then = next((name for name in order if name != column), None)
    return any(
        [each.name for each in index.columns][:2] == [column, then]
        for index in table.indexes
        if index.dialect_options["sqlite"]["where"] is None
    )


def _order_columns(order_by: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for each in order_by for name, value in each.items() if value is not None]

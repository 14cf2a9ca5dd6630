"""Compiles a table field's arguments to SQL, for any table: `where`, `order_by`, `distinct_on`, `limit`, `offset`.

The dialect's rules: all keys of an object must hold; a comparison with a given null is no condition; a comparison with
a stored NULL is false; nulls sort as in Postgres; rows that order_by does not tell apart are in the order of
insertion, newest first if its last key is descending.
Knows no GraphQL type and no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Table,
    and_,
    func,
    select,
)

from flowherd_server.errors import Refused
from flowherd_server.graphql.aliases import inner_of, scope_of
from flowherd_server.graphql.arguments import Arguments, Parents, natural
from flowherd_server.graphql.conditions import MAX_WHERE_DEPTH, compile_where
from flowherd_server.graphql.operators import comparable, one_of
from flowherd_server.graphql.row_keys import RowKeys, keys_of_parents, keys_of_rows
from flowherd_server.store.relationships import RELATIONSHIPS
from flowherd_server.store.run_counts import RUN_COUNT
from flowherd_server.store.tables import FLOW_RUN, insertion_order

#: A condition on rows of a table, as a function of the alias that the query uses.
Condition = Callable[[FromClause], ColumnElement[bool]]

#: {word: (descending, nulls first)}.
_ORDERS = {
    "asc": (False, False),
    "desc": (True, True),
    "asc_nulls_first": (False, True),
    "asc_nulls_last": (False, False),
    "desc_nulls_first": (True, True),
    "desc_nulls_last": (True, False),
}
ORDER_WORDS = tuple(_ORDERS)


def select_rows(
    table: Table, columns: Iterable[str], arguments: Arguments, parents: Parents | None = None
) -> Select[Any]:
    """Return the query for the rows of `table` that `arguments` select, in their order."""
    keys = keys_of_rows(table, arguments) if parents is None else keys_of_parents(arguments, parents)
    if keys is not None:
        return _select_by_key(table, columns, arguments, keys)
    scope = scope_of(table)
    condition, limit, offset = _condition(table, arguments, parents)
    query = select(*(scope.c[name] for name in columns)).where(condition(scope))
    return _limited(query.order_by(*_order(table, scope, arguments.order_by)), limit, offset)


def _select_by_key(table: Table, columns: Iterable[str], arguments: Arguments, keys: RowKeys) -> Select[Any]:
    scope, inner, key = scope_of(table), inner_of(table), insertion_order(table)
    first = select(inner.c[key]).where(inner.c[keys.column] == keys.values.c.value)
    first = first.where(compile_where(table, inner, keys.where)).order_by(*_order(table, inner, arguments.order_by))
    first = _limited(first, keys.limit_each, keys.offset_each).correlate(keys.values)
    found = and_(scope.c[key].in_(first))
    if "view" in table.info:  # whose key has no index of its own
        found = and_(scope.c[keys.column] == keys.values.c.value, found)
    rows = keys.values.join(scope, found)
    query = select(*(scope.c[name] for name in columns)).select_from(rows)
    return _limited(query.order_by(*_order(table, scope, arguments.order_by)), keys.limit, keys.offset)


def _limited(query: Select[Any], limit: int | None, offset: int) -> Select[Any]:
    if limit is None and not offset:
        return query
    return query.limit(-1 if limit is None else limit).offset(offset)


@dataclass(frozen=True)
class Measure:
    """One aggregate over all rows: count, max, min, sum or avg of the columns, or a plain count without columns."""

    function: str
    columns: Sequence[str] = ()
    distinct: bool = False


def measure_rows(
    table: Table, measures: Sequence[Measure], arguments: Arguments, parents: Parents | None = None
) -> Select[Any]:
    """Return the query for aggregates over the rows that `arguments` select.

    It returns one row with the measures, or with `parents` a row for each key, the key first.
    """
    kept = _kept_counts(table, measures, arguments, parents)
    if kept is not None:
        return kept
    scope = scope_of(table)
    condition, limit, offset = _condition(table, arguments, parents)
    needed = {insertion_order(table), *(name for measure in measures for name in measure.columns)}
    rows = select(*(scope.c[name] for name in sorted(needed | ({parents.column} if parents else set()))))
    rows = rows.where(condition(scope))
    if limit is not None or offset:
        rows = _limited(rows.order_by(*_order(table, scope, arguments.order_by)), limit, offset)
    found = rows.subquery()
    values = [_measured(found, measure).label(f"measure_{at}") for at, measure in enumerate(measures)]
    if parents is None:
        return select(*values).select_from(found)
    return select(found.c[parents.column], *values).group_by(found.c[parents.column])


def _kept_counts(
    table: Table, measures: Sequence[Measure], arguments: Arguments, parents: Parents | None
) -> Select[Any] | None:
    """Return the query for numbers of flow runs that need not be counted; None if they must be."""
    counts = scope_of(RUN_COUNT)
    plain = all(measure == Measure("count") for measure in measures)
    limited = arguments.limit is not None or arguments.offset or arguments.distinct_on
    known = parents is None or parents.column in counts.c
    if table is not FLOW_RUN or not plain or limited or not known or not _is_about(counts, arguments.where):
        return None
    number = func.coalesce(func.sum(counts.c.runs), 0)
    values = [number.label(f"measure_{at}") for at in range(len(measures))]
    query = select(*values).where(compile_where(table, counts, arguments.where))
    if parents is None:
        return query
    key = counts.c[parents.column]
    return query.with_only_columns(key, *values).where(one_of(key, parents.keys)).group_by(key)


def _is_about(counts: FromClause, where: Mapping[str, Any] | None) -> bool:
    """Return whether a condition on flow runs only speaks of what the counts tell apart."""
    for key, value in (where or {}).items():
        relationship = RELATIONSHIPS[FLOW_RUN.name].get(key)
        if key in ("_and", "_or", "_not"):
            inner = value if isinstance(value, list) else [value]
            if not all(_is_about(counts, each) for each in inner):
                return False
        elif (key if relationship is None else relationship.source_column) not in counts.c or (
            relationship is not None and relationship.many
        ):
            return False
    return True


def _measured(found: FromClause, measure: Measure) -> ColumnElement[Any]:
    columns = [comparable(found.c[name]) for name in measure.columns]
    if measure.function != "count":
        return cast(ColumnElement[Any], getattr(func, measure.function)(*columns))
    if len(columns) == 1:
        return func.count(columns[0].distinct() if measure.distinct else columns[0])
    # A row of several columns is not null even if all its columns are.
    return func.count(func.json_array(*columns).distinct()) if columns and measure.distinct else func.count()


def _condition(table: Table, arguments: Arguments, parents: Parents | None) -> tuple[Condition, int | None, int]:
    """Return the condition on the rows, and the limit and offset that the query itself still has to apply."""
    limit, offset = natural("limit", arguments.limit), natural("offset", arguments.offset) or 0

    def matching(scope: FromClause) -> ColumnElement[bool]:
        found = compile_where(table, scope, arguments.where)
        return found if parents is None else and_(_of_parents(scope, parents), found)

    condition: Condition = matching
    group = [] if parents is None else [parents.column]
    if arguments.distinct_on:
        condition = _ranked(table, condition, [*group, *arguments.distinct_on], arguments, 0, 1)
    # For a single key the query's own limit does, which can stop early at an index instead of reading all rows.
    if parents is not None and len(parents.keys) != 1 and (limit is not None or offset):
        return _ranked(table, condition, group, arguments, offset, limit), None, 0
    return condition, limit, offset


def _of_parents(scope: FromClause, parents: Parents) -> ColumnElement[bool]:
    column = scope.c[parents.column]
    if len(parents.keys) == 1:
        return and_(column == parents.keys[0])
    # Not null, so that SQLite may begin with the table that a view only joins by LEFT JOIN.
    return and_(column.is_not(None), one_of(column, parents.keys))


def _ranked(
    table: Table, condition: Condition, group: Sequence[str], arguments: Arguments, offset: int, limit: int | None
) -> Condition:
    """Return the condition for those rows within `condition` that are at places offset..offset+limit of their group."""
    inner = table.alias()
    key = insertion_order(table)
    place = func.row_number().over(
        partition_by=[comparable(inner.c[name]) for name in group], order_by=_order(table, inner, arguments.order_by)
    )
    ranked = select(inner.c[key].label("key"), place.label("place")).where(condition(inner)).subquery()
    chosen = select(ranked.c.key).where(ranked.c.place > offset)
    if limit is not None:
        chosen = chosen.where(ranked.c.place <= offset + limit)
    if "view" not in table.info:
        return lambda scope: scope.c[key].in_(chosen)
    # The key of a view has no index of its own, so the condition has to lead to the rows once more.
    return lambda scope: and_(condition(scope), scope.c[key].in_(chosen))


def _order(table: Table, scope: FromClause, order_by: Sequence[Mapping[str, Any]]) -> list[ColumnElement[Any]]:
    keys = [key for each in order_by for key in _order_keys(table, scope, each, lambda column: column, 0)]
    last = insertion_order(table)
    if any(each.get(last) for each in order_by):
        return keys
    inserted = scope.c[last]
    # Equal rows newest first if times are, which is the order in which an index is read backwards.
    return [*keys, inserted.desc() if _descends(order_by) else inserted.asc()]


def _descends(order_by: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the last key of `order_by` is descending."""
    last: Any = list(order_by)
    while not isinstance(last, str):
        inner = [each for each in (last.values() if isinstance(last, Mapping) else last) if each]
        if not inner:
            return False
        last = inner[-1]
    return _ORDERS[last][0]


def _order_keys(
    table: Table,
    scope: FromClause,
    order_by: Mapping[str, Any],
    reach: Callable[[ColumnElement[Any]], ColumnElement[Any]],
    depth: int,
) -> list[ColumnElement[Any]]:
    """Return the sort keys of `order_by`. `reach` turns a column of `scope` into an expression of the sorted query."""
    if depth > MAX_WHERE_DEPTH:
        raise Refused(f"order_by is nested more than {MAX_WHERE_DEPTH} deep")
    keys: list[ColumnElement[Any]] = []
    for name, value in order_by.items():
        relationship = RELATIONSHIPS[table.name].get(name)
        if value is None:
            continue
        if relationship is None:
            nullable = depth > 0 or table.c[name].nullable is not False
            keys.append(_directed(comparable(reach(scope.c[name])), value, nullable))
        else:
            target = relationship.target.alias()
            link = target.c[relationship.target_column] == scope.c[relationship.source_column]
            further = _through(reach, link, scope)
            keys.extend(_order_keys(relationship.target, target, value, further, depth + 1))
    return keys


def _through(
    reach: Callable[[ColumnElement[Any]], ColumnElement[Any]], link: ColumnElement[bool], scope: FromClause
) -> Callable[[ColumnElement[Any]], ColumnElement[Any]]:
    return lambda column: reach(select(column).where(link).correlate(scope).scalar_subquery())


def _directed(value: ColumnElement[Any], word: str, nullable: bool) -> ColumnElement[Any]:
    descending, nulls_first = _ORDERS[word]
    directed = value.desc() if descending else value.asc()
    # Only for columns that may be null, because SQLite more often uses an index if the order does not mention nulls.
    if not nullable:
        return directed
    return directed.nulls_first() if nulls_first else directed.nulls_last()

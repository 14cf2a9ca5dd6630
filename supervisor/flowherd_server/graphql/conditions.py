"""Compiles `where` to SQL, for any table.

The dialect's rules: all keys of an object must hold; a comparison with a given null is no condition; a comparison with
a stored NULL is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Table, and_, exists, false, literal_column, not_, or_, true

from flowherd_server.errors import Refused
from flowherd_server.graphql.operators import OPERATORS
from flowherd_server.store.log_codes import LOWEST_SEVERE, counter_of, level_code
from flowherd_server.store.relationships import RELATIONSHIPS, Relationship
from flowherd_server.store.tables import FLOW_RUN
from flowherd_server.store.views import LOG

#: Limit of nesting, far below that of SQLite, which refuses expressions nested 1000 deep.
MAX_WHERE_DEPTH = 24

#: Columns on which `{_eq: null}` is false and not "no condition": Prefect 0.13 asks like that for cached states of a
#: task without a cache key, and would otherwise take another task's value.
_NULL_IS_NO_MATCH = frozenset({"cache_key"})


def compile_where(
    table: Table, scope: FromClause, where: Mapping[str, Any] | None, depth: int = 0
) -> ColumnElement[bool]:
    """Return the condition that a bool_exp states about rows of `table`, aliased as `scope`.

    Raises Refused if it is nested too deeply.
    """
    if depth > MAX_WHERE_DEPTH:
        raise Refused(f"where is nested more than {MAX_WHERE_DEPTH} deep")
    parts = [_part(table, scope, key, value, depth) for key, value in (where or {}).items() if value is not None]
    return and_(true(), *parts)


def _part(table: Table, scope: FromClause, key: str, value: Any, depth: int) -> ColumnElement[bool]:
    if key == "_not":
        return not_(compile_where(table, scope, value, depth + 1))
    if key in ("_and", "_or"):
        parts = [compile_where(table, scope, each, depth + 1) for each in _listed(value)]
        # An empty _or is false, because no alternative is true.
        return and_(true(), *parts) if key == "_and" else or_(false(), *parts)
    relationship = RELATIONSHIPS[table.name].get(key)
    if relationship is not None:
        related = _related(relationship, scope, value, depth)
        return and_(_has_lines(scope, value), related) if relationship.target is LOG and table is FLOW_RUN else related
    if table is LOG and key == "level" and value.get("_eq") is not None:
        return and_(_has_level(scope, value["_eq"]), _compare(scope.c[key], value))
    compared, run_of = _compare(scope.c[key], value), table.c[key].info.get("run_of")
    if run_of is not None and value.get("_eq") is not None:
        return and_(scope.c.run == run_of(value["_eq"]), compared)
    return compared


def _listed(value: Any) -> list[Any]:
    return [each for each in value if each is not None] if isinstance(value, list) else [value]


def _related(
    relationship: Relationship, scope: FromClause, where: Mapping[str, Any], depth: int
) -> ColumnElement[bool]:
    target = relationship.target.alias()
    link = target.c[relationship.target_column] == scope.c[relationship.source_column]
    return exists().where(link, compile_where(relationship.target, target, where, depth + 1)).correlate(scope)


def _has_level(scope: FromClause, name: str) -> ColumnElement[bool]:
    """Return what holds for a line of a level, in the words of the index of severe lines."""
    code = level_code(name)[0]
    is_severe = scope.c.level_code >= literal_column(str(LOWEST_SEVERE)) if code >= LOWEST_SEVERE else true()
    return and_(scope.c.level_code == code, is_severe)


def _has_lines(scope: FromClause, where: Mapping[str, Any]) -> ColumnElement[bool]:
    """Return what holds for a run that has lines within `where`, as far as the run's counters tell it."""
    name = (where.get("level") or {}).get("_eq")
    counter = "log_lines" if name is None else counter_of(level_code(name)[0])
    return scope.c[counter] > literal_column("0")


def _compare(column: ColumnElement[Any], operators: Mapping[str, Any]) -> ColumnElement[bool]:
    parts = []
    for operator, value in operators.items():
        if value is not None:
            parts.append(OPERATORS[operator](column, value))
        elif operator == "_eq" and column.key in _NULL_IS_NO_MATCH:
            parts.append(false())
    return and_(true(), *parts)

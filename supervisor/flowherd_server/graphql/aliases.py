"""Aliases of tables that are made once: SQLAlchemy makes all columns of each anew, which costs more than the query."""

from __future__ import annotations

from functools import cache

from sqlalchemy import FromClause, Table


def scope_of(table: Table) -> FromClause:
    """Return the alias under which a statement's own rows are selected. Once in a statement at most."""
    return _alias(table, "scope")


def inner_of(table: Table) -> FromClause:
    """Return a second alias, for a subquery of such a statement. Once in a statement at most, too."""
    return _alias(table, "inner")


@cache
def _alias(table: Table, _place: str) -> FromClause:
    found = table.alias()
    # They are made when they are first asked for, which should not be in two threads at once.
    assert found.c is not None
    return found

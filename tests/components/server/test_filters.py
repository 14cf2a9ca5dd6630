"""Hasura's arguments on every table: each column with each operator, each relationship, and random conditions.

The server's answers are compared with a plain evaluation of the same conditions on the same rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from graphql import GraphQLInputObjectType, GraphQLObjectType
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Table

from flowherd_server.call import Caller
from flowherd_server.graphql.compiler import ORDER_WORDS
from flowherd_server.service import SCHEMA, ServerCore
from flowherd_server.store.columns import Json, visible_columns
from flowherd_server.store.database import Database
from flowherd_server.store.relationships import RELATIONSHIPS
from flowherd_server.store.views import visible_tables
from tests.support.hasura import Row, as_sent, fill, is_true, ordered, related, values_of_kind
from tests.support.mutations import fuzz
from tests.support.server_core import core_of

TABLES = {table.name: table for table in visible_tables()}
EACH_TABLE = pytest.mark.parametrize("table", TABLES.values(), ids=str)


class World:
    """A server's schema over a database with some rows in each table."""

    def __init__(self, database: Database) -> None:
        self.rows = fill(database, seed=1)
        self._service = core_of(database)

    def ask(self, text: str, variables: Mapping[str, Any] | None = None) -> Any:
        status, pieces = ServerCore.answer(self._service, text, variables, None, Caller())  # type: ignore[arg-type]
        body = json.loads(b"".join(pieces))
        assert (status, list(body)) == (200, ["data"]), (body, variables)
        return body["data"]

    def ids(self, table: Table, where: Any, order_by: Any = None, **more: Any) -> list[Any]:
        """Return the ids of the rows that the server selects, in its order."""
        name = table.name
        text = (
            f"query($w: {name}_bool_exp, $o: [{name}_order_by!], $d: [{name}_select_column!], $l: Int, $s: Int) "
            f"{{ {name}(where: $w, order_by: $o, distinct_on: $d, limit: $l, offset: $s) {{ id }} }}"
        )
        given = {"w": where and sent(table, where), "o": order_by, **more}
        return [row["id"] for row in self.ask(text, given)[name]]

    def expected(self, table: Table, where: Mapping[str, Any]) -> list[Row]:
        return [row for row in self.rows[table.name] if is_true(self.rows, table, row, where)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with closing(Database(tmp_path_factory.mktemp("filters") / "test.sqlite")) as database:
        yield World(database)


def sent(table: Table, where: Mapping[str, Any]) -> dict[str, Any]:
    """Return a condition with stored values as a client would send it."""
    found: dict[str, Any] = {}
    for key, value in where.items():
        if key in ("_and", "_or"):
            found[key] = [sent(table, each) for each in value]
        elif key == "_not":
            found[key] = sent(table, value)
        elif key in RELATIONSHIPS[table.name]:
            found[key] = sent(RELATIONSHIPS[table.name][key].target, value)
        else:
            found[key] = {operator: _operand_sent(table.c[key], operator, each) for operator, each in value.items()}
    return found


def _operand_sent(column: Column[Any], operator: str, operand: Any) -> Any:
    if operator in ("_in", "_nin"):
        return [as_sent(column, each) for each in operand]
    return as_sent(column, operand) if operator in ("_eq", "_neq", "_lt", "_lte", "_gt", "_gte") else operand


def operators(table: Table, column: Column[Any]) -> list[str]:
    """Return the operators that the schema has for the column."""
    condition = SCHEMA.type_map[f"{table.name}_bool_exp"]
    assert isinstance(condition, GraphQLInputObjectType)
    comparison = condition.fields[column.name].type
    assert isinstance(comparison, GraphQLInputObjectType)
    return list(comparison.fields)


def operands(world: World, table: Table, column: Column[Any], operator: str) -> list[Any]:
    """Return values to compare with, some of which occur in the rows and some do not."""
    stored = [row[column.name] for row in world.rows[table.name] if row[column.name] is not None]
    some = [*stored[:2], *values_of_kind(column)[1:3]]
    if operator == "_is_null":
        return [True, False]
    if operator in ("_in", "_nin"):
        return [[], some[:1], some]
    if operator.endswith("like"):
        return ["%", "%a%", "A", "_", "r%G"] if operator.startswith("_i") else ["%", "a_", "%n%"]
    if operator.startswith("_has_key"):
        return ["a"] if operator == "_has_key" else [["a", "b"], ["c"], []]
    if isinstance(column.type, Json):
        return [*some, ["a"], {"a": 1}, [1], "a", []]
    return some


@EACH_TABLE
def test_each_column_can_be_compared_with_each_operator_of_its_kind(world: World, table: Table) -> None:
    # One operand for each pair, the next one for the next pair, and every second time negated: enough over all tables.
    turn = len(table.name)
    for column in visible_columns(table):
        for operator in operators(table, column):
            turn += 1
            some = operands(world, table, column, operator)
            where: dict[str, Any] = {column.name: {operator: some[turn % len(some)]}}
            condition = {"_not": where} if turn % 3 == 0 else where
            expected = [row["id"] for row in world.expected(table, condition)]
            assert world.ids(table, condition) == expected, condition


def test_there_is_an_operator_for_each_purpose() -> None:
    flow_run = TABLES["flow_run"]
    ordering = ["_eq", "_neq", "_lt", "_lte", "_gt", "_gte", "_in", "_nin", "_is_null"]
    assert operators(flow_run, flow_run.c.heartbeat) == ordering
    assert operators(flow_run, flow_run.c.name) == [*ordering, "_like", "_nlike", "_ilike", "_nilike"]
    of_json = ["_contains", "_contained_in", "_has_key", "_has_keys_all", "_has_keys_any"]
    assert operators(flow_run, flow_run.c.labels) == [*ordering, *of_json]


@EACH_TABLE
def test_rows_can_be_sorted_by_each_column_in_each_direction(world: World, table: Table) -> None:
    for column in visible_columns(table):
        for word in ("asc", "desc") if column.nullable is False else ORDER_WORDS:
            expected = [row["id"] for row in ordered(world.rows[table.name], [(column.name, word)])]
            assert world.ids(table, None, {column.name: word}) == expected, (column, word)


@EACH_TABLE
def test_distinct_on_each_column_keeps_the_first_row_of_each_value(world: World, table: Table) -> None:
    for column in visible_columns(table):
        rows = ordered(world.rows[table.name], [(column.name, "asc")])
        firsts = [row for at, row in enumerate(rows) if at == 0 or rows[at - 1][column.name] != row[column.name]]
        found = world.ids(table, None, {column.name: "asc"}, d=[column.name])
        # In Python, 1 equals True.
        if not isinstance(column.type, Json):
            assert found == [row["id"] for row in firsts], column


@EACH_TABLE
def test_each_relationship_selects_filters_counts_and_sorts(world: World, table: Table) -> None:
    for name, relationship in RELATIONSHIPS[table.name].items():
        counted = f"{name}_aggregate {{ aggregate {{ count }} }}" if relationship.many else ""
        found = world.ask(f"{{ {table.name} {{ id {name} {{ id }} {counted} }} }}")[table.name]
        for row, shown in zip(world.rows[table.name], found, strict=True):
            expected = [{"id": each["id"]} for each in related(world.rows, table, row, name)]
            assert shown[name] == (expected if relationship.many else expected[0] if expected else None)
            if relationship.many:
                assert shown[f"{name}_aggregate"] == {"aggregate": {"count": len(expected)}}
        for where in ({name: {}}, {"_not": {name: {}}}):
            assert world.ids(table, where) == [row["id"] for row in world.expected(table, where)]
        if not relationship.many:
            for word in ORDER_WORDS:
                keyed = [
                    {**row, "@": next((each["id"] for each in related(world.rows, table, row, name)), None)}
                    for row in world.rows[table.name]
                ]
                assert world.ids(table, None, {name: {"id": word}}) == [r["id"] for r in ordered(keyed, [("@", word)])]


@EACH_TABLE
def test_each_column_can_be_aggregated(world: World, table: Table) -> None:
    rows = world.rows[table.name]
    aggregate = SCHEMA.type_map[f"{table.name}_aggregate_fields"]
    assert isinstance(aggregate, GraphQLObjectType)
    for function, measure in (("max", max), ("min", min), ("sum", sum), ("avg", lambda v: sum(v) / len(v))):
        if function not in aggregate.fields:
            continue
        measured = aggregate.fields[function].type
        assert isinstance(measured, GraphQLObjectType)
        for name in measured.fields:
            values = [row[name] for row in rows if row[name] is not None]
            found = world.ask(f"{{ {table.name}_aggregate {{ aggregate {{ value: {function} {{ it: {name} }} }} }} }}")
            expected = as_sent(table.c[name], measure(values)) if values else None  # type: ignore[operator]
            assert found == {f"{table.name}_aggregate": {"aggregate": {"value": {"it": expected}}}}, (function, name)


@EACH_TABLE
def test_each_column_can_be_counted_with_and_without_repeated_values(world: World, table: Table) -> None:
    for column in visible_columns(table):
        values = [row[column.name] for row in world.rows[table.name] if row[column.name] is not None]
        text = (
            f"all: count once: count(columns: {column.name}, distinct: true) "
            f"some: count(columns: [{column.name}]) rows: count(columns: [id, {column.name}], distinct: true)"
        )
        found = world.ask(f"{{ {table.name}_aggregate {{ aggregate {{ {text} }} }} }}")[f"{table.name}_aggregate"]
        rows, distinct = len(world.rows[table.name]), len({repr(value) for value in values})
        assert found["aggregate"] == {"all": rows, "once": distinct, "some": len(values), "rows": rows}, column


def test_aggregates_of_nested_rows_count_for_each_parent_and_list_its_rows(world: World) -> None:
    flow_run = TABLES["flow_run"]
    text = "states_aggregate(order_by: {version: desc}, limit: 2) { nodes { id } aggregate { count max { version } } }"
    for row, shown in zip(world.rows["flow_run"], world.ask(f"{{ flow_run {{ {text} }} }}")["flow_run"], strict=True):
        states = ordered(related(world.rows, flow_run, row, "states"), [("version", "desc")])[:2]
        assert shown["states_aggregate"] == {
            "nodes": [{"id": state["id"]} for state in states],
            "aggregate": {"count": len(states), "max": {"version": states[0]["version"] if states else None}},
        }


@st.composite
def conditions(draw: st.DrawFn, table: Table, depth: int) -> dict[str, Any]:
    """Draw a condition on rows of `table`, with values as they are stored."""
    found: dict[str, Any] = {}
    for _ in range(draw(st.integers(0, 2))):
        kind = draw(
            st.sampled_from(["column", "column", "relationship", "_and", "_or", "_not"] if depth else ["column"])
        )
        if kind in ("_and", "_or"):
            found[kind] = draw(st.lists(conditions(table, depth - 1), max_size=3))
        elif kind == "_not":
            found[kind] = draw(conditions(table, depth - 1))
        elif kind == "relationship" and RELATIONSHIPS[table.name]:
            name, relationship = draw(st.sampled_from(sorted(RELATIONSHIPS[table.name].items())))
            found[name] = draw(conditions(relationship.target, depth - 1))
        else:
            column = draw(st.sampled_from(visible_columns(table)))
            found[column.name] = draw(_comparisons(table, column))
    return found


@st.composite
def _comparisons(draw: st.DrawFn, table: Table, column: Column[Any]) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(operators(table, column)), min_size=1, max_size=2, unique=True))
    return {operator: draw(_operands(column, operator)) for operator in chosen}


def _operands(column: Column[Any], operator: str) -> st.SearchStrategy[Any]:
    if operator == "_is_null":
        return st.booleans()
    if operator.endswith("like"):
        return st.text("aAb%_n", max_size=4)
    keys = st.sampled_from(["a", "b", "x"])
    if operator.startswith("_has_key"):
        return keys if operator == "_has_key" else st.lists(keys, max_size=2)
    value = st.sampled_from(values_of_kind(column))
    return st.lists(value, max_size=3) if operator in ("_in", "_nin") else value


@fuzz(60)
@given(st.data())
def test_any_condition_selects_what_a_plain_evaluation_selects(world: World, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(list(TABLES.values())), label="table")
    where = data.draw(conditions(table, 3), label="where")
    sort = st.tuples(st.sampled_from([column.name for column in visible_columns(table)]), st.sampled_from(ORDER_WORDS))
    order_by = data.draw(st.lists(sort, max_size=2, unique_by=lambda key: key[0]), label="order_by")
    limit, offset = data.draw(st.none() | st.integers(0, 5)), data.draw(st.none() | st.integers(0, 3))
    expected = ordered(world.expected(table, where), order_by)[offset or 0 :][:limit]
    found = world.ids(table, where, [{name: word} for name, word in order_by], l=limit, s=offset)
    assert found == [row["id"] for row in expected]

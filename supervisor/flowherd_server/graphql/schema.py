"""Generates the GraphQL schema from the tables and the operations.

A table T gets the fields T, T_by_pk and T_aggregate, and the types that Hasura generates for their arguments
(T_bool_exp, T_order_by, T_select_column). An operation O gets the field O with O_input and O_payload.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphql import (
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLSchema,
    is_input_type,
)
from graphql.type import GraphQLBoolean, GraphQLFloat, GraphQLInt, GraphQLString
from sqlalchemy import Table

from flowherd_server.graphql.arguments import Arguments
from flowherd_server.graphql.compiler import ORDER_WORDS
from flowherd_server.graphql.loader import AGGREGATE_SUFFIX, Loader, Row
from flowherd_server.graphql.operations import Operation
from flowherd_server.graphql.operators import (
    JSON_OPERATORS,
    KEY_OPERATORS,
    KEYS_OPERATORS,
    LIST_OPERATORS,
    TEXT_OPERATORS,
    VALUE_OPERATORS,
)
from flowherd_server.graphql.scalars import BIGINT, TABLE_JSON, scalar_of
from flowherd_server.store.columns import visible_columns
from flowherd_server.store.relationships import RELATIONSHIPS, Relationship
from flowherd_server.store.views import visible_tables

#: Scalars that have a maximum and a minimum, which have the column's own scalar.
_ORDERED: dict[str, GraphQLScalarType | None] = dict.fromkeys(("Int", "bigint", "String", "timestamptz", "interval"))
#: {aggregate function: {scalar of the columns that have it: scalar of the result, None for the column's own}}.
MEASURES: dict[str, dict[str, GraphQLScalarType | None]] = {
    "max": _ORDERED,
    "min": _ORDERED,
    "sum": dict.fromkeys(("Int", "bigint"), BIGINT),
    "avg": dict.fromkeys(("Int", "bigint"), GraphQLFloat),
}
ORDER = GraphQLEnumType("order_by", {word: word for word in ORDER_WORDS})


_ROWS = GraphQLScalarType("rows", coerce_output_value=lambda value: value)


@dataclass(frozen=True)
class ComputedField:
    """A field of a table's rows that is not a column, but computed from some columns.

    The request's context has a method of the same name that takes the values of these columns.
    """

    table: str
    name: str
    type: GraphQLOutputType
    columns: Sequence[str]


@dataclass(frozen=True)
class Part:
    """What a client may ask for who may not ask for everything."""

    #: {table: the relationships of its rows that can be followed, in fields and in conditions}.
    tables: Mapping[str, Collection[str]]
    #: Returns the condition (a bool_exp) that every row of this table must fulfil where no other row leads to it.
    narrowed: Callable[[str, Any], Mapping[str, Any]]


def build_schema(
    operations: Sequence[Operation],
    fields: Mapping[str, GraphQLField],
    computed: Sequence[ComputedField],
    part: Part | None = None,
) -> GraphQLSchema:
    """Return the schema of all tables and `operations`; `fields` are further fields of the query root.

    With `part` it has only these tables and relationships. `narrowed` gets the request's context.
    """
    types = _Types(computed, part)
    tables = {name: field for table in types.tables for name, field in types.root_fields(table).items()}
    mutation = {operation.name: _mutation_field(operation) for operation in operations}
    schema = GraphQLSchema(GraphQLObjectType("Query", {**fields, **tables}), GraphQLObjectType("Mutation", mutation))
    schema.extensions["reading"] = _reading_schema(schema, fields, tables)
    return schema


def _reading_schema(
    schema: GraphQLSchema, fields: Mapping[str, GraphQLField], tables: Mapping[str, GraphQLField]
) -> GraphQLSchema:
    """Return a schema in which the value of a table's field is a scalar.

    A query that is valid in `schema` can be executed in this one with the same answer, because the loader returns what
    belongs into the answer. To go through each value again takes four times as long as all the rest. Only the
    description of the schema has to be read from `schema` itself.
    """
    query = {name: GraphQLField(_ROWS, field.args, field.resolve) for name, field in tables.items()}
    inputs = [name for name, kind in schema.type_map.items() if is_input_type(kind) and not name.startswith("__")]
    reading = GraphQLSchema(
        GraphQLObjectType("Query", {**fields, **query}), types=[schema.type_map[name] for name in inputs]
    )
    reading.extensions["whole"] = schema
    return reading


class _Types:
    """The types of all tables. Their fields are made on demand, because the types refer to one another."""

    def __init__(self, computed: Sequence[ComputedField], part: Part | None) -> None:
        self._computed = computed
        self._part = part
        self._needs = {(each.table, each.name): each.columns for each in computed}
        self._comparisons: dict[str, GraphQLInputObjectType] = {}
        self.tables = tables = [table for table in visible_tables() if part is None or table.name in part.tables]
        self._rows = {table.name: self._row_type(table) for table in tables}
        self._aggregates = {table.name: self._aggregate_type(table) for table in tables}
        self._columns = {table.name: _column_enum(table) for table in tables}
        self._where = {table.name: self._where_type(table) for table in tables}
        self._order = {table.name: self._order_type(table) for table in tables}

    def root_fields(self, table: Table) -> dict[str, GraphQLField]:
        """Return the three fields of the query root for `table`."""
        key = GraphQLArgument(GraphQLNonNull(scalar_of(table.c.id)))
        return {
            table.name: GraphQLField(
                GraphQLList(GraphQLNonNull(self._rows[table.name])), self._arguments(table), self._resolve_rows(table)
            ),
            f"{table.name}_by_pk": GraphQLField(self._rows[table.name], {"id": key}, self._resolve_row(table)),
            table.name + AGGREGATE_SUFFIX: GraphQLField(
                self._aggregates[table.name], self._arguments(table), self._resolve_aggregate(table)
            ),
        }

    def _arguments(self, table: Table) -> dict[str, GraphQLArgument]:
        return {
            "where": GraphQLArgument(self._where[table.name]),
            "order_by": GraphQLArgument(GraphQLList(GraphQLNonNull(self._order[table.name]))),
            "distinct_on": GraphQLArgument(GraphQLList(GraphQLNonNull(self._columns[table.name]))),
            "limit": GraphQLArgument(GraphQLInt),
            "offset": GraphQLArgument(GraphQLInt),
        }

    def _resolve_rows(self, table: Table) -> Any:
        def resolve(_root: Any, info: GraphQLResolveInfo[Any], **_given: Any) -> list[Row]:
            loader = Loader(info.context.connection, info, self._needs)
            arguments = self._narrowed(table, loader.arguments("Query", info.field_nodes[0]), info)
            return loader.rows(table, info.field_nodes, arguments)

        return resolve

    def _resolve_row(self, table: Table) -> Any:
        def resolve(_root: Any, info: GraphQLResolveInfo[Any], id: Any) -> Row | None:
            loader = Loader(info.context.connection, info, self._needs)
            arguments = self._narrowed(table, Arguments(where={"id": {"_eq": id}}), info)
            rows = loader.rows(table, info.field_nodes, arguments)
            return rows[0] if rows else None

        return resolve

    def _resolve_aggregate(self, table: Table) -> Any:
        def resolve(_root: Any, info: GraphQLResolveInfo[Any], **_given: Any) -> Row:
            loader = Loader(info.context.connection, info, self._needs)
            arguments = self._narrowed(table, loader.arguments("Query", info.field_nodes[0]), info)
            return loader.aggregate(table, info.field_nodes, arguments)

        return resolve

    def _narrowed(self, table: Table, arguments: Arguments, info: GraphQLResolveInfo[Any]) -> Arguments:
        if self._part is None:
            return arguments
        given, must = arguments.where, self._part.narrowed(table.name, info.context)
        return replace(arguments, where={"_and": [must, given]} if given else must)

    def _relationships(self, table: Table) -> Mapping[str, Relationship]:
        found = RELATIONSHIPS[table.name]
        if self._part is None:
            return found
        return {name: found[name] for name in self._part.tables[table.name]}

    def _aggregate_type(self, table: Table) -> GraphQLObjectType:
        return GraphQLObjectType(
            table.name + AGGREGATE_SUFFIX,
            lambda: {
                "aggregate": GraphQLField(self._aggregate_fields(table), resolve=_by_response_key),
                "nodes": GraphQLField(
                    GraphQLNonNull(GraphQLList(GraphQLNonNull(self._rows[table.name]))), resolve=_by_response_key
                ),
            },
        )

    def _aggregate_fields(self, table: Table) -> GraphQLObjectType:
        columns = GraphQLList(GraphQLNonNull(self._columns[table.name]))
        arguments = {"columns": GraphQLArgument(columns), "distinct": GraphQLArgument(GraphQLBoolean)}
        fields = {"count": GraphQLField(GraphQLNonNull(GraphQLInt), arguments, _by_response_key)}
        for function, kinds in MEASURES.items():
            measured = {
                column.name: GraphQLField(kinds[scalar_of(column).name] or scalar_of(column), resolve=_by_response_key)
                for column in visible_columns(table)
                if scalar_of(column).name in kinds
            }
            if measured:
                kind = GraphQLObjectType(f"{table.name}_{function}_fields", measured)
                fields[function] = GraphQLField(kind, resolve=_by_response_key)
        return GraphQLObjectType(f"{table.name}_aggregate_fields", fields)

    def _row_type(self, table: Table) -> GraphQLObjectType:
        return GraphQLObjectType(table.name, lambda: self._row_fields(table))

    def _row_fields(self, table: Table) -> dict[str, GraphQLField]:
        fields = {
            column.name: GraphQLField(_nullable_or_not(column, scalar_of(column)), resolve=_by_response_key)
            for column in visible_columns(table)
        }
        for each in self._computed:
            if each.table == table.name:
                fields[each.name] = GraphQLField(each.type, resolve=_by_response_key)
        for name, relationship in self._relationships(table).items():
            target = relationship.target
            if not relationship.many:
                fields[name] = GraphQLField(self._rows[target.name], resolve=_by_response_key)
                continue
            rows = GraphQLNonNull(GraphQLList(GraphQLNonNull(self._rows[target.name])))
            fields[name] = GraphQLField(rows, self._arguments(target), _by_response_key)
            count = GraphQLNonNull(self._aggregates[target.name])
            fields[name + AGGREGATE_SUFFIX] = GraphQLField(count, self._arguments(target), _by_response_key)
        return fields

    def _where_type(self, table: Table) -> GraphQLInputObjectType:
        return GraphQLInputObjectType(f"{table.name}_bool_exp", lambda: self._where_fields(table))

    def _where_fields(self, table: Table) -> dict[str, GraphQLInputField]:
        itself = self._where[table.name]
        several = GraphQLInputField(GraphQLList(itself))
        fields = {"_and": several, "_or": several, "_not": GraphQLInputField(itself)}
        for column in visible_columns(table):
            fields[column.name] = GraphQLInputField(self._comparison(scalar_of(column)))
        for name, relationship in self._relationships(table).items():
            fields[name] = GraphQLInputField(self._where[relationship.target.name])
        return fields

    def _order_type(self, table: Table) -> GraphQLInputObjectType:
        return GraphQLInputObjectType(f"{table.name}_order_by", lambda: self._order_fields(table))

    def _order_fields(self, table: Table) -> dict[str, GraphQLInputField]:
        fields = {column.name: GraphQLInputField(ORDER) for column in visible_columns(table)}
        for name, relationship in self._relationships(table).items():
            if not relationship.many:
                fields[name] = GraphQLInputField(self._order[relationship.target.name])
        return fields

    def _comparison(self, scalar: GraphQLScalarType) -> GraphQLInputObjectType:
        if scalar.name not in self._comparisons:
            self._comparisons[scalar.name] = _comparison_type(scalar)
        return self._comparisons[scalar.name]


def _comparison_type(scalar: GraphQLScalarType) -> GraphQLInputObjectType:
    operators: dict[str, Any] = dict.fromkeys(VALUE_OPERATORS, scalar)
    operators.update(dict.fromkeys(LIST_OPERATORS, GraphQLList(GraphQLNonNull(scalar))), _is_null=GraphQLBoolean)
    if scalar is GraphQLString:
        operators.update(dict.fromkeys(TEXT_OPERATORS, GraphQLString))
    if scalar is TABLE_JSON:
        operators.update(dict.fromkeys(JSON_OPERATORS, TABLE_JSON))
        operators.update(dict.fromkeys(KEY_OPERATORS, GraphQLString))
        operators.update(dict.fromkeys(KEYS_OPERATORS, GraphQLList(GraphQLNonNull(GraphQLString))))
    fields = {name: GraphQLInputField(kind) for name, kind in operators.items()}
    return GraphQLInputObjectType(f"{scalar.name}_comparison_exp", fields)


def _column_enum(table: Table) -> GraphQLEnumType:
    names = [column.name for column in visible_columns(table)]
    return GraphQLEnumType(f"{table.name}_select_column", dict(zip(names, names, strict=True)))


def _nullable_or_not(column: Any, scalar: GraphQLScalarType) -> GraphQLOutputType:
    return scalar if column.nullable else GraphQLNonNull(scalar)


def _by_response_key(selected: Row, info: GraphQLResolveInfo[Any], **_given: Any) -> Any:
    return selected[str(info.path.key)]


def _mutation_field(operation: Operation) -> GraphQLField:
    fields = {name: GraphQLInputField(kind) for name, kind in operation.arguments.items()}
    answer = {name: GraphQLField(kind) for name, kind in operation.answer.items()}

    def resolve(_root: Any, info: GraphQLResolveInfo[Any], input: Mapping[str, Any]) -> Mapping[str, Any]:
        result: Mapping[str, Any] = info.context.carry_out(operation, input)
        return result

    return GraphQLField(
        GraphQLObjectType(f"{operation.name}_payload", answer),
        {"input": GraphQLArgument(GraphQLNonNull(GraphQLInputObjectType(f"{operation.name}_input", fields)))},
        resolve,
    )

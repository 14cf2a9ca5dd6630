"""Loads the rows of a table field and all nested fields, with one query for each level and not for each row.

A row is a dict of its columns; the rows of a nested field are in it under `nested_key(response key)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLObjectType,
    GraphQLResolveInfo,
    InlineFragmentNode,
    SelectionSetNode,
    get_directive_values,
    value_from_ast_untyped,
)
from graphql.execution import get_argument_values
from graphql.type import GraphQLIncludeDirective, GraphQLSkipDirective
from sqlalchemy import Connection, Select, Table

from flowherd_server.errors import Refused
from flowherd_server.graphql.arguments import Arguments, Parents
from flowherd_server.graphql.compiler import Measure, measure_rows, select_rows
from flowherd_server.store.relationships import RELATIONSHIPS, Relationship

#: Maximum number of rows in an answer, because the server shares its host's memory with flow runs.
MAX_ROWS = 100_000
#: Maximum number of characters in an answer, for rows with long log messages.
MAX_CHARACTERS = 64 * 1024 * 1024
_CHUNK_ROWS = 1000
AGGREGATE_SUFFIX = "_aggregate"

Row = dict[str, Any]


def nested_key(response_key: str) -> str:
    """Return the key in a row for the rows of the nested field with this response key."""
    return "@" + response_key


@dataclass
class Budget:
    """How many more rows and characters one request may load, in all its fields together."""

    rows: int = MAX_ROWS
    characters: int = MAX_CHARACTERS

    def spend(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Subtract the rows. Raises Refused if they are too many."""
        self.rows -= len(rows)
        self.characters -= sum(len(value) for row in rows for value in row.values() if isinstance(value, str))
        if self.rows < 0 or self.characters < 0:
            raise Refused(
                f"the answer has more than {MAX_ROWS} rows or {MAX_CHARACTERS} characters; "
                "ask for fewer rows with limit and offset or where"
            )


@dataclass
class Loader:
    """Loads the rows for one operation over one connection."""

    connection: Connection
    info: GraphQLResolveInfo[Any]
    #: Columns that computed fields need: {(type name, field name): column names}.
    computed: Mapping[tuple[str, str], Sequence[str]]

    def rows(
        self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments, parents: Parents | None = None
    ) -> list[Row]:
        """Load the rows of `table` with all columns and nested rows that `nodes` select.

        Raises Refused if there are too many.
        """
        selected = list(self._fields(nodes))
        relationships = RELATIONSHIPS[table.name]
        columns = self._columns(table, selected)
        if parents is not None:
            columns.add(parents.column)
        rows = self._fetch(select_rows(table, sorted(columns), arguments, parents))
        for response_key, name, field_nodes in selected:
            relationship = relationships.get(name.removesuffix(AGGREGATE_SUFFIX))
            if relationship is not None:
                related = self._related(rows, table, relationship, field_nodes)
                for row in rows:
                    row[nested_key(response_key)] = related(row[relationship.source_column])
        return rows

    def aggregate(self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments) -> Row:
        """Load what `nodes` select of an aggregate over the rows that `arguments` select, by response key."""
        return self._aggregates(table, nodes, arguments, None)(None)

    def arguments(self, type_name: str, node: FieldNode) -> Arguments:
        """Return the arguments of a table field of the type `type_name`."""
        parent = cast(GraphQLObjectType, self.info.schema.type_map[type_name])
        given = get_argument_values(parent.fields[node.name.value], node, self.info.variable_values)
        return Arguments(
            where=given.get("where"),
            order_by=self._order_by(node) if given.get("order_by") else (),
            distinct_on=given.get("distinct_on") or (),
            limit=given.get("limit"),
            offset=given.get("offset"),
        )

    def _order_by(self, node: FieldNode) -> Sequence[Mapping[str, Any]]:
        # The order of keys matters, but coerced input objects have the order of the type's fields. So this reads the
        # literal, or the variable as it was sent; it has already been checked against the type.
        literal = next(argument.value for argument in node.arguments or () if argument.name.value == "order_by")
        variables = {**self.info.variable_values.coerced, **self.info.context.raw_variables}
        value = value_from_ast_untyped(literal, variables)
        return value if isinstance(value, list) else [value]

    def _fetch(self, query: Select[Any]) -> list[Row]:
        rows: list[Row] = []
        result = self.connection.execute(query).mappings()
        while chunk := result.fetchmany(_CHUNK_ROWS):
            rows.extend(dict(row) for row in chunk)
            self.info.context.budget.spend(chunk)
        return rows

    def _columns(self, table: Table, selected: Sequence[tuple[str, str, Sequence[FieldNode]]]) -> set[str]:
        columns: set[str] = set()
        for _, name, _ in selected:
            relationship = RELATIONSHIPS[table.name].get(name.removesuffix(AGGREGATE_SUFFIX))
            if relationship is not None:
                columns.add(relationship.source_column)
            elif (table.name, name) in self.computed:
                columns.update(self.computed[table.name, name])
            elif name in table.c:
                columns.add(name)
        return columns or {"id"}

    def _related(
        self, rows: Sequence[Row], table: Table, relationship: Relationship, nodes: Sequence[FieldNode]
    ) -> Callable[[Any], Any]:
        """Load the related rows. Returns a function from the source column's value to the rows related to it."""
        keys = list({row[relationship.source_column] for row in rows} - {None})
        parents = Parents(relationship.target_column, keys)
        arguments = self.arguments(table.name, nodes[0]) if relationship.many else Arguments()
        if nodes[0].name.value != relationship.name:  # the field NAME_aggregate
            return self._aggregates(relationship.target, nodes, arguments, parents)
        children = self.rows(relationship.target, nodes, arguments, parents) if keys else []
        if not relationship.many:
            return {child[relationship.target_column]: child for child in children}.get
        groups: dict[Any, list[Row]] = {key: [] for key in keys}
        for child in children:
            groups[child[relationship.target_column]].append(child)
        return groups.get

    def _aggregates(
        self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments, parents: Parents | None
    ) -> Callable[[Any], Row]:
        """Load what `nodes` select of an aggregate. Returns a function from a parent's key (else None) to it."""
        selected = list(self._fields(nodes))
        places = list(self._places(table, selected))
        measured = self._measured(table, [measure for _, measure in places], arguments, parents)
        listed = {
            key: self._listed(table, found, arguments, parents) for key, name, found in selected if name == "nodes"
        }

        def of(key: Any) -> Row:
            row: Row = {name: rows(key) for name, rows in listed.items()}
            for (path, measure), value in zip(places, measured.get(key, [None] * len(places)), strict=True):
                inner = row
                for step in path[:-1]:
                    inner = inner.setdefault(step, {})
                inner[path[-1]] = 0 if value is None and measure.function == "count" else value
            return row

        return of

    def _places(
        self, table: Table, selected: Sequence[tuple[str, str, Sequence[FieldNode]]]
    ) -> Iterator[tuple[tuple[str, ...], Measure]]:
        """Return the selected measures, each after the response keys by which it is found in the answer."""
        fields = cast(GraphQLObjectType, self.info.schema.type_map[f"{table.name}_aggregate_fields"]).fields
        for key, name, nodes in selected:
            for function_key, function, inner in self._fields(nodes) if name == "aggregate" else ():
                if function == "count":
                    given = get_argument_values(fields["count"], inner[0], self.info.variable_values)
                    measure = Measure("count", given.get("columns") or (), bool(given.get("distinct")))
                    yield (key, function_key), measure
                elif not function.startswith("__"):
                    for column_key, column, _ in self._fields(inner):
                        if not column.startswith("__"):
                            yield (key, function_key, column_key), Measure(function, (column,))

    def _measured(
        self, table: Table, measures: Sequence[Measure], arguments: Arguments, parents: Parents | None
    ) -> dict[Any, Sequence[Any]]:
        if not measures or (parents is not None and not parents.keys):
            return {}
        rows = self.connection.execute(measure_rows(table, measures, arguments, parents)).all()
        return {None: rows[0]} if parents is None else {row[0]: row[1:] for row in rows}

    def _listed(
        self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments, parents: Parents | None
    ) -> Callable[[Any], list[Row]]:
        if parents is None:
            rows = self.rows(table, nodes, arguments)
            return lambda _key: rows
        groups: dict[Any, list[Row]] = {key: [] for key in parents.keys}
        for row in self.rows(table, nodes, arguments, parents) if parents.keys else []:
            groups[row[parents.column]].append(row)
        return lambda key: groups.get(key, [])

    def _fields(self, nodes: Sequence[FieldNode]) -> Iterator[tuple[str, str, Sequence[FieldNode]]]:
        """Return the fields selected inside `nodes`: response key, field name, and all nodes with that response key."""
        found: dict[str, list[FieldNode]] = {}
        spread: set[str] = set()
        for node in nodes:
            if node.selection_set is not None:
                self._collect(node.selection_set, found, spread)
        for response_key, same in found.items():
            yield response_key, same[0].name.value, same

    def _collect(self, selections: SelectionSetNode, found: dict[str, list[FieldNode]], spread: set[str]) -> None:
        for node in selections.selections:
            if not self._included(node):
                continue
            if isinstance(node, FieldNode):
                found.setdefault((node.alias or node.name).value, []).append(node)
            elif isinstance(node, InlineFragmentNode):
                self._collect(node.selection_set, found, spread)
            elif isinstance(node, FragmentSpreadNode) and node.name.value not in spread:
                spread.add(node.name.value)
                self._collect(self.info.fragments[node.name.value].selection_set, found, spread)

    def _included(self, node: Any) -> bool:
        skip = get_directive_values(GraphQLSkipDirective, node, self.info.variable_values)
        include = get_directive_values(GraphQLIncludeDirective, node, self.info.variable_values)
        return not (skip and skip["if"]) and not (include and not include["if"])

"""Loads the rows of a table field and all nested fields, with one query for each level and not for each row.

A row is a dict with what belongs into the answer, by response key.
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
from flowherd_server.graphql.scalars import shown
from flowherd_server.graphql.turns import PIECE_ROWS
from flowherd_server.store.relationships import RELATIONSHIPS, Relationship

#: Maximum number of rows in an answer, because the server shares its host's memory with flow runs.
MAX_ROWS = 100_000
#: Maximum number of characters in an answer, for rows with long log messages.
MAX_CHARACTERS = 64 * 1024 * 1024
AGGREGATE_SUFFIX = "_aggregate"

Row = dict[str, Any]


@dataclass
class Budget:
    """How many more rows and characters one request may load, in all its fields together."""

    rows: int = MAX_ROWS
    characters: int = MAX_CHARACTERS

    def spend(self, rows: Sequence[Sequence[Any]]) -> None:
        """Subtract the rows. Raises Refused if they are too many."""
        self.rows -= len(rows)
        self.characters -= sum(len(value) for row in rows for value in row if isinstance(value, str))
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
        return self._load(table, nodes, arguments, parents)[0]

    def _load(
        self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments, parents: Parents | None
    ) -> tuple[list[Row], list[Any]]:
        """Load the rows, and for each the value of the column by which it belongs to one of `parents`."""
        selected = list(self._fields(nodes))
        names = self._columns(table, selected) | ({parents.column} if parents is not None else set())
        place = {name: number for number, name in enumerate(sorted(names))}
        values = {key: self._values(table, name, place) for key, name, _ in selected}
        related = [(key, found, nodes) for key, name, nodes in selected if (found := _relationship(table, name))]
        keys: dict[str, list[Any]] = {found.source_column: [] for _, found, _ in related}
        if parents is not None:
            keys[parents.column] = []
        rows: list[Row] = []
        for chunk in self._fetch(select_rows(table, list(place), arguments, parents)):
            columns: list[Sequence[Any]] = list(zip(*chunk, strict=True))
            made = [make(columns) for make in values.values()]
            # Without a field, because all are skipped, each row is an empty object.
            rows += (
                [dict(zip(values, row, strict=True)) for row in zip(*made, strict=True)]
                if made
                else [{} for _ in chunk]
            )
            for name, owners in keys.items():
                owners.extend(columns[place[name]])
        for key, relationship, field_nodes in related:
            sources = keys[relationship.source_column]
            of_source = self._related(sources, table, relationship, field_nodes)
            for row, source in zip(rows, sources, strict=True):
                row[key] = of_source(source)
        return rows, keys[parents.column] if parents is not None else []

    def _values(self, table: Table, name: str, place: Mapping[str, int]) -> Callable[[list[Sequence[Any]]], Any]:
        """Return a function from the columns of some rows to the values of a field in each of these rows."""
        if name == "__typename":
            return lambda columns: [table.name] * len(columns[0])
        if (table.name, name) in self.computed:
            places = [place[column] for column in self.computed[table.name, name]]
            compute = getattr(self.info.context, name)
            return lambda columns: [compute(*given) for given in zip(*(columns[at] for at in places), strict=True)]
        if _relationship(table, name) is not None:  # filled in later
            return lambda columns: [None] * len(columns[0])
        at, show = place[name], shown(table.c[name])
        if show is None:
            return lambda columns: columns[at]
        return lambda columns: [None if value is None else show(value) for value in columns[at]]

    def aggregate(self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments) -> Row:
        """Load what `nodes` select of an aggregate over the rows that `arguments` select, by response key."""
        return self._aggregates(table, nodes, arguments, None)(None)

    def arguments(self, type_name: str, node: FieldNode) -> Arguments:
        """Return the arguments of a table field of the type `type_name`."""
        parent = self._type(type_name)
        given = get_argument_values(parent.fields[node.name.value], node, self.info.variable_values)
        return Arguments(
            where=given.get("where"),
            order_by=self._order_by(node) if given.get("order_by") else (),
            distinct_on=given.get("distinct_on") or (),
            limit=given.get("limit"),
            offset=given.get("offset"),
        )

    def _type(self, name: str) -> GraphQLObjectType:
        schema = self.info.schema.extensions.get("whole", self.info.schema)
        return cast(GraphQLObjectType, schema.type_map[name])

    def _order_by(self, node: FieldNode) -> Sequence[Mapping[str, Any]]:
        # The order of keys matters, but coerced input objects have the order of the type's fields. So this reads the
        # literal, or the variable as it was sent; it has already been checked against the type.
        literal = next(argument.value for argument in node.arguments or () if argument.name.value == "order_by")
        variables = {**self.info.variable_values.coerced, **self.info.context.raw_variables}
        value = value_from_ast_untyped(literal, variables)
        return value if isinstance(value, list) else [value]

    def _fetch(self, query: Select[Any]) -> Iterator[Sequence[Sequence[Any]]]:
        """Return the rows in pieces. Raises Refused if they are too many."""
        result, context = self.connection.execute(query), self.info.context
        chunk = result.fetchmany(PIECE_ROWS)
        while chunk:
            context.budget.spend(chunk)
            yield chunk
            chunk = result.fetchmany(PIECE_ROWS)
            if chunk:
                context.turn.next_piece()

    def _columns(self, table: Table, selected: Sequence[tuple[str, str, Sequence[FieldNode]]]) -> set[str]:
        columns: set[str] = set()
        for _, name, _ in selected:
            relationship = _relationship(table, name)
            if relationship is not None:
                columns.add(relationship.source_column)
            elif (table.name, name) in self.computed:
                columns.update(self.computed[table.name, name])
            elif name in table.c:
                columns.add(name)
        return columns or {"id"}

    def _related(
        self, sources: Sequence[Any], table: Table, relationship: Relationship, nodes: Sequence[FieldNode]
    ) -> Callable[[Any], Any]:
        """Load the related rows. Returns a function from the source column's value to the rows related to it."""
        keys = list(set(sources) - {None})
        parents = Parents(relationship.target_column, keys)
        arguments = self.arguments(table.name, nodes[0]) if relationship.many else Arguments()
        if nodes[0].name.value != relationship.name:  # the field NAME_aggregate
            return self._aggregates(relationship.target, nodes, arguments, parents)
        if not relationship.many:
            children, owners = self._load(relationship.target, nodes, arguments, parents) if keys else ([], [])
            return dict(zip(owners, children, strict=True)).get
        return self._groups(relationship.target, nodes, arguments, parents)

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

        names = list(self._typenames(table, selected))

        def of(key: Any) -> Row:
            row: Row = {name: rows(key) for name, rows in listed.items()}
            for path, typename in names:
                _put(row, path, typename)
            for (path, measure), value in zip(places, measured.get(key, [None] * len(places)), strict=True):
                _put(row, path, _shown_measure(table, measure, value))
            return row

        return of

    def _typenames(
        self, table: Table, selected: Sequence[tuple[str, str, Sequence[FieldNode]]]
    ) -> Iterator[tuple[tuple[str, ...], str]]:
        """Return the types' names that are selected in an aggregate, as `_places` does for measures."""
        for key, name, nodes in selected:
            if name == "__typename":
                yield (key,), table.name + AGGREGATE_SUFFIX
            for function_key, function, inner in self._fields(nodes) if name == "aggregate" else ():
                if function == "__typename":
                    yield (key, function_key), f"{table.name}_aggregate_fields"
                for column_key, column, _ in self._fields(inner):
                    if column == "__typename":
                        yield (key, function_key, column_key), f"{table.name}_{function}_fields"

    def _places(
        self, table: Table, selected: Sequence[tuple[str, str, Sequence[FieldNode]]]
    ) -> Iterator[tuple[tuple[str, ...], Measure]]:
        """Return the selected measures, each after the response keys by which it is found in the answer."""
        fields = self._type(f"{table.name}_aggregate_fields").fields
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
        return self._groups(table, nodes, arguments, parents)

    def _groups(
        self, table: Table, nodes: Sequence[FieldNode], arguments: Arguments, parents: Parents
    ) -> Callable[[Any], list[Row]]:
        """Load the rows that belong to `parents`. Returns a function from a parent's key to its rows."""
        groups: dict[Any, list[Row]] = {key: [] for key in parents.keys}
        if parents.keys:
            for row, owner in zip(*self._load(table, nodes, arguments, parents), strict=True):
                groups[owner].append(row)
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


def _relationship(table: Table, name: str) -> Relationship | None:
    return RELATIONSHIPS[table.name].get(name.removesuffix(AGGREGATE_SUFFIX))


def _put(row: Row, path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        row = row.setdefault(step, {})
    row[path[-1]] = value


def _shown_measure(table: Table, measure: Measure, value: Any) -> Any:
    if measure.function == "count":
        return value or 0
    show = shown(table.c[measure.columns[0]]) if measure.function in ("max", "min") and value is not None else None
    return value if show is None else show(value)

"""GraphQL texts and variables generated from the embedded server's own schema, for hypothesis."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
)
from hypothesis import strategies as st

from flowherd_server.service import SCHEMA
from tests.support.mutations import STRANGE_VALUES

#: Draws from a strategy, as the function of st.composite and the one of st.data do.
Draw = Callable[[st.SearchStrategy[Any]], Any]

_WORDS = st.one_of(
    st.sampled_from(
        [
            '"x"',
            '"\\u0000"',
            '"\\ud800"',
            "0",
            "-1",
            "99999999999999999999",
            "1e400",
            "null",
            "true",
            "[]",
            "{}",
            "X",
            '"2024-01-01T00:00:00Z"',
            '"99999-01-01"',
            '"%"',
            f'"{uuid.uuid4()}"',
            "[[null]]",
        ]
    ),
    st.text(max_size=6).map(json.dumps),
)


def _value_for(draw: Draw, kind: Any, depth: int) -> str:
    """Draw a literal for an input type: mostly a fitting one, sometimes anything."""
    if draw(st.integers(0, 9)) == 0:
        return str(draw(_WORDS))
    if isinstance(kind, GraphQLNonNull):
        return _value_for(draw, kind.of_type, depth)
    if isinstance(kind, GraphQLList):
        return "[" + ", ".join(_value_for(draw, kind.of_type, depth - 1) for _ in range(draw(st.integers(0, 2)))) + "]"
    if isinstance(kind, GraphQLEnumType):
        return str(draw(st.sampled_from(sorted(kind.values))))
    if isinstance(kind, GraphQLInputObjectType):
        if depth <= 0:
            return "{}"
        names = sorted(kind.fields)
        chosen = set(draw(st.lists(st.sampled_from(names), max_size=3)))
        chosen |= {name for name in names if isinstance(kind.fields[name].type, GraphQLNonNull)}
        return "{" + ", ".join(f"{n}: {_value_for(draw, kind.fields[n].type, depth - 1)}" for n in sorted(chosen)) + "}"
    assert isinstance(kind, GraphQLScalarType)
    fitting = {
        "String": '"x"',
        "Int": "3",
        "Boolean": "true",
        "uuid": f'"{uuid.uuid4()}"',
        "UUID": f'"{uuid.uuid4()}"',
        "timestamptz": '"2024-01-01"',
        "DateTime": '"2024-01-01"',
        "JSON": '{type: "Failed", a: [1]}',
    }
    return fitting.get(kind.name) or str(draw(_WORDS))


def selection_for(draw: Draw, kind: Any, depth: int) -> str:
    """Draw a selection of fields of an output type; empty for a type without fields."""
    while hasattr(kind, "of_type"):
        kind = kind.of_type
    if not isinstance(kind, GraphQLObjectType):
        return ""
    leaves = [name for name, field in kind.fields.items() if not _is_object(field.type)]
    names = list(kind.fields) if depth > 0 else leaves
    if not names:
        return " { __typename }"
    chosen = draw(st.lists(st.sampled_from(sorted(names)), min_size=1, max_size=3))
    parts = [_field_for(draw, f"a{n}: {name}", kind.fields[name], depth - 1) for n, name in enumerate(chosen)]
    return " { " + " ".join(parts) + " }"


def _is_object(kind: Any) -> bool:
    while hasattr(kind, "of_type"):
        kind = kind.of_type
    return isinstance(kind, GraphQLObjectType)


def _field_for(draw: Draw, shown: str, field: Any, depth: int) -> str:
    names = [n for n, a in field.args.items() if isinstance(a.type, GraphQLNonNull) or draw(st.booleans())]
    given_args = ", ".join(f"{name}: {_value_for(draw, field.args[name].type, 3)}" for name in names)
    return f"{shown}{f'({given_args})' if given_args else ''}{selection_for(draw, field.type, depth)}"


@st.composite
def operations(draw: st.DrawFn) -> str:
    """Draw a query or a mutation from the schema itself."""
    root, word = draw(st.sampled_from([(SCHEMA.query_type, "query"), (SCHEMA.mutation_type, "mutation")]))
    assert root is not None
    names = draw(st.lists(st.sampled_from(sorted(root.fields)), min_size=1, max_size=2))
    fields = [_field_for(draw, f"r{n}: {name}", root.fields[name], 3) for n, name in enumerate(names)]
    return f"{word} {{ {' '.join(fields)} }}"


def input_for(draw: Draw, kind: Any, depth: int) -> Any:
    """Draw a value for an input type as JSON: mostly a fitting one, sometimes anything."""
    if isinstance(kind, GraphQLNonNull):
        return input_for(draw, kind.of_type, depth)
    if isinstance(kind, GraphQLList):
        return [input_for(draw, kind.of_type, depth - 1) for _ in range(draw(st.integers(0, 2)))]
    if isinstance(kind, GraphQLInputObjectType):
        return {n: input_for(draw, f.type, depth - 1) for n, f in kind.fields.items()} if depth > 0 else {}
    fitting: dict[str, Any] = {
        "String": "x",
        "Int": 3,
        "Boolean": True,
        "uuid": str(uuid.uuid4()),
        "JSON": {"type": "Failed"},
    }
    fitting |= {"UUID": str(uuid.uuid4()), "DateTime": "2024-01-01T00:00:00Z", "timestamptz": "2024-01-01"}
    return draw(STRANGE_VALUES) if draw(st.integers(0, 6)) == 0 else fitting.get(getattr(kind, "name", ""), "x")

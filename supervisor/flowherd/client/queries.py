"""The GraphQL texts that a person's requests have in common: select rows, create something, identify the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.backends.graphql.literals import arguments
from flowherd.backends.graphql.transport import GraphQLTransport


def select(transport: GraphQLTransport, table: str, fields: str, **given: Any) -> list[dict[str, Any]]:
    """Return the rows of a table, each with `fields`.

    `given` are GraphQL arguments such as where, order_by and limit; those that are None are left out.
    """
    rows: list[dict[str, Any]] = transport.execute(f"query {{ {table}{arguments(**given)} {{ {fields} }} }}")[table]
    return rows


def create(transport: GraphQLTransport, operation: str, values: Mapping[str, Any]) -> str:
    """Carry out a mutation that creates something and return the new id."""
    query = f"mutation($input: {operation}_input!) {{ {operation}(input: $input) {{ id }} }}"
    return str(transport.execute(query, {"input": dict(values)})[operation]["id"])


def is_flowherd_server(transport: GraphQLTransport) -> bool:
    """Ask the server for a sign of life and return whether it is flowherd's own, which has the extensions."""
    transport.execute("query { hello }")
    return transport.server_version is not None

"""The GraphQL texts that a person's requests have in common: select rows, create something, identify the server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from flowherd.backends.graphql.literals import arguments
from flowherd.backends.graphql.transport import GraphQLTransport
from flowherd.backends.json_values import DECODING_ERRORS, mappings_not_null, text
from flowherd.errors import BackendUnavailable

T = TypeVar("T")

#: Number of ids in one request; of some operations flowherd's server takes no more.
_IDS_AT_ONCE = 100


def select(
    transport: GraphQLTransport, table: str, fields: str, read: Callable[[Mapping[str, Any]], T], **given: Any
) -> list[T]:
    """Return what `read` makes of each row of a table that has `fields`.

    `given` are GraphQL arguments such as where, order_by and limit; those that are None are left out. What `read`
    cannot read, with the functions of backends/json_values.py, is BackendUnavailable: something else than a server of
    this API answers.
    """
    data = transport.execute(f"query {{ {table}{arguments(**given)} {{ {fields} }} }}")
    with understanding(transport, f"the rows of {table}"):
        return [read(row) for row in mappings_not_null(data[table])]


def state_in(states: Collection[str]) -> dict[str, Any]:
    """Return the condition that a run is in one of these states."""
    return {"state": {"_in": sorted(states)}}


def batches(ids: Sequence[str]) -> Iterator[list[str]]:
    """Yield the ids, as many at a time as one request may name."""
    for start in range(0, len(ids), _IDS_AT_ONCE):
        yield list(ids[start : start + _IDS_AT_ONCE])


def create(transport: GraphQLTransport, operation: str, values: Mapping[str, Any]) -> str:
    """Carry out a mutation that creates something and return the new id."""
    query = f"mutation($input: {operation}_input!) {{ {operation}(input: $input) {{ id }} }}"
    data = transport.execute(query, {"input": dict(values)})
    with understanding(transport, f"the answer to {operation}"):
        return text(data[operation]["id"])


@contextlib.contextmanager
def understanding(transport: GraphQLTransport, what: str) -> Iterator[None]:
    """Raise BackendUnavailable if the block cannot read `what`, as the server sent it."""
    try:
        yield
    except DECODING_ERRORS as error:
        cause = f"{error} is missing" if isinstance(error, KeyError) else str(error) or repr(error)
        raise BackendUnavailable(
            f"{transport.origin} answered, but {what} cannot be understood ({cause:.200})"
        ) from error


def is_flowherd_server(transport: GraphQLTransport) -> bool:
    """Ask the server for a sign of life and return whether it is flowherd's own, which has the extensions."""
    transport.execute("query { hello }")
    return transport.server_version is not None

"""Secrets: values that a flow's process gets by their name and nobody is shown.

They are no table of GraphQL, never part of a message, and in the database as they are: whoever may read the server's
files or has its token may have them (docs/dialect.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import Connection, delete, select

from flowherd_server.errors import NOT_FOUND, Refused
from flowherd_server.graphql.operations import Call, Caller, Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT
from flowherd_server.mutations.tenants import tenant_of
from flowherd_server.store.keyed_rows import put
from flowherd_server.store.tables import SECRET

#: The words by which Prefect's clients know that there is no such secret.
_UNKNOWN = "No value found for the requested key"


def secret_value(connection: Connection, caller: Caller, name: str) -> Any:
    """The value of a secret. Raises Refused when there is none of that name."""
    tenant_id = tenant_of(connection, caller)
    query = select(SECRET.c.value).where(SECRET.c.tenant_id == tenant_id, SECRET.c.name == name)
    found = connection.execute(query).first()
    if found is None:
        raise Refused(_UNKNOWN, NOT_FOUND)
    return found.value


def secret_names(connection: Connection, caller: Caller) -> list[str]:
    """All of them, sorted."""
    query = select(SECRET.c.name).where(SECRET.c.tenant_id == tenant_of(connection, caller))
    return list(connection.execute(query.order_by(SECRET.c.name)).scalars())


def _set(call: Call, given: Input) -> Mapping[str, Any]:
    if not given["name"]:
        raise Refused("a secret's name cannot be empty")
    put(call, SECRET, "name", given["name"], value=given["value"])
    return {"success": True}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    tenant_id = tenant_of(call.connection, call.caller)
    secret = SECRET.c.tenant_id == tenant_id, SECRET.c.name == given["name"]
    if not call.connection.execute(delete(SECRET).where(*secret)).rowcount:
        raise Refused(_UNKNOWN, NOT_FOUND)
    return {"success": True}


_NAME = GraphQLNonNull(GraphQLString)

OPERATIONS = (
    Operation(
        name="set_secret",
        arguments={"name": _NAME, "value": GraphQLNonNull(JSON_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_set,
    ),
    Operation(
        name="delete_secret",
        arguments={"name": _NAME},
        answer={"success": GraphQLBoolean},
        handle=_delete,
    ),
)

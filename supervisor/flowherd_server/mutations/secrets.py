"""Setting and deleting secrets: values that a flow's process reads by name and that are not shown to people.

They are not a table of GraphQL and never part of a message. The database holds them unencrypted, so everyone who may
read the server's files or has its token can read them (docs/dialect.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import delete

from flowherd_server.call import Call
from flowherd_server.errors import NOT_FOUND, Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT
from flowherd_server.store.keyed_rows import NO_SUCH_SECRET, put_row
from flowherd_server.store.row_lookup import tenant_id_of
from flowherd_server.store.tables import SECRET


def _set(call: Call, given: Input) -> Mapping[str, Any]:
    if not given["name"]:
        raise Refused("a secret's name cannot be empty")
    put_row(call, SECRET, "name", given["name"], value=given["value"])
    return {"success": True}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    tenant_id = tenant_id_of(call.connection, call.caller)
    secret = SECRET.c.tenant_id == tenant_id, SECRET.c.name == given["name"]
    if not call.connection.execute(delete(SECRET).where(*secret)).rowcount:
        raise Refused(NO_SUCH_SECRET, NOT_FOUND)
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

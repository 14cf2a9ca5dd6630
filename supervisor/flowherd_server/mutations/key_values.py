"""The key-value store: small JSON values that flows share. Clients read them as the table key_value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.store.keyed_rows import put_row
from flowherd_server.store.row_lookup import delete_row
from flowherd_server.store.tables import KEY_VALUE

MAX_VALUE_BYTES = 1024 * 1024


def _set(call: Call, given: Input) -> Mapping[str, Any]:
    if not given["key"]:
        raise Refused("a key cannot be empty")
    if len(json.dumps(given["value"])) > MAX_VALUE_BYTES:
        raise Refused(f"the value of {given['key']!r} is larger than {MAX_VALUE_BYTES} bytes")
    return {"id": put_row(call, KEY_VALUE, "key", given["key"], value=given["value"])}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    delete_row(call.connection, KEY_VALUE, given["key_value_id"])
    return {"success": True}


OPERATIONS = (
    Operation(
        name="set_key_value",
        arguments={"key": GraphQLNonNull(GraphQLString), "value": JSON_INPUT},
        answer={"id": UUID_INPUT},
        handle=_set,
        prepare=lambda given: {"value": None, **given},
    ),
    Operation(
        name="delete_key_value",
        arguments={"key_value_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete,
    ),
)

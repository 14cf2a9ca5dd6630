"""Setting the limits on the number of task runs with a tag; runs/tag_slots.py applies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLInt, GraphQLString

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.store.keyed_rows import put_row
from flowherd_server.store.row_lookup import delete_row
from flowherd_server.store.tables import TASK_TAG_LIMIT


def _update(call: Call, given: Input) -> Mapping[str, Any]:
    """Set the limit. Task runs that are already running go on, even if they are more."""
    tag, limit = given["tag"], given["limit"]
    if not tag:
        raise Refused("a tag cannot be empty")
    if limit < 0:
        raise Refused(f"the limit of tag {tag!r} is {limit}, but must be 0 or more")
    return {"id": put_row(call, TASK_TAG_LIMIT, "tag", tag, limit=limit)}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    delete_row(call.connection, TASK_TAG_LIMIT, given["limit_id"])
    return {"success": True}


OPERATIONS = (
    Operation(
        name="update_task_tag_limit",
        arguments={"tag": GraphQLNonNull(GraphQLString), "limit": GraphQLNonNull(GraphQLInt)},
        answer={"id": UUID_INPUT},
        handle=_update,
    ),
    Operation(
        name="delete_task_tag_limit",
        arguments={"limit_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete,
    ),
)

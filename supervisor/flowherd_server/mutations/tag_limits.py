"""Setting how many task runs with a tag may run at a time; the effect is tag_limits.py's of the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLInt, GraphQLString

from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Call, Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.store.keyed_rows import put, take_away
from flowherd_server.store.tables import TASK_TAG_LIMIT


def _update(call: Call, given: Input) -> Mapping[str, Any]:
    """Those that run already go on, if they are more."""
    tag, limit = given["tag"], given["limit"]
    if not tag:
        raise Refused("a tag cannot be empty")
    if limit < 0:
        raise Refused(f"the limit of tag {tag!r} is {limit}, but must be 0 or more")
    return {"id": put(call, TASK_TAG_LIMIT, "tag", tag, limit=limit)}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    take_away(call, TASK_TAG_LIMIT, given["limit_id"])
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

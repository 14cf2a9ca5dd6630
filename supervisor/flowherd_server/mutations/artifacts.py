"""Artifacts: links or Markdown that a task run shows to people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import insert, update

from flowherd_server.call import Call
from flowherd_server.errors import Refused, not_found
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.store.row_lookup import delete_row, row_by_id
from flowherd_server.store.tables import FLOW_RUN, TASK_RUN, TASK_RUN_ARTIFACT

#: Limit of the dialect's real server.
MAX_DATA_BYTES = 1024 * 1024


def _create(call: Call, given: Input) -> Mapping[str, Any]:
    task_run = row_by_id(call.connection, TASK_RUN, given["task_run_id"])
    tenant_id = row_by_id(call.connection, FLOW_RUN, task_run["flow_run_id"])["tenant_id"]
    if given.get("tenant_id") not in (None, tenant_id):
        raise not_found(f"in tenant {given['tenant_id']}, task run", task_run["id"])
    if not given["kind"].strip():
        raise Refused("an artifact's kind cannot be empty")
    row = {
        "id": str(uuid4()),
        "tenant_id": tenant_id,
        "task_run_id": task_run["id"],
        "kind": given["kind"],
        "data": _checked(given["data"]),
        "created": call.now,
        "updated": call.now,
    }
    call.connection.execute(insert(TASK_RUN_ARTIFACT), row)
    return {"id": row["id"]}


def _update(call: Call, given: Input) -> Mapping[str, Any]:
    changed = {"data": _checked(given["data"]), "updated": call.now}
    artifact = row_by_id(call.connection, TASK_RUN_ARTIFACT, given["task_run_artifact_id"])
    call.connection.execute(update(TASK_RUN_ARTIFACT).where(TASK_RUN_ARTIFACT.c.id == artifact["id"]), changed)
    return {"success": True}


def _delete(call: Call, given: Input) -> Mapping[str, Any]:
    delete_row(call.connection, TASK_RUN_ARTIFACT, given["task_run_artifact_id"])
    return {"success": True}


def _checked(data: Any) -> Any:
    if len(json.dumps(data)) > MAX_DATA_BYTES:
        raise Refused(f"an artifact's data is larger than {MAX_DATA_BYTES} bytes")
    return data


_ID, _DATA = GraphQLNonNull(UUID_INPUT), GraphQLNonNull(JSON_INPUT)

OPERATIONS = (
    Operation(
        name="create_task_run_artifact",
        arguments={
            "task_run_id": _ID,
            "kind": GraphQLNonNull(GraphQLString),
            "data": _DATA,
            "tenant_id": UUID_INPUT,
        },
        answer={"id": UUID_INPUT},
        handle=_create,
    ),
    Operation(
        name="update_task_run_artifact",
        arguments={"task_run_artifact_id": _ID, "data": _DATA},
        answer={"success": GraphQLBoolean},
        handle=_update,
    ),
    Operation(
        name="delete_task_run_artifact",
        arguments={"task_run_artifact_id": _ID},
        answer={"success": GraphQLBoolean},
        handle=_delete,
    ),
)

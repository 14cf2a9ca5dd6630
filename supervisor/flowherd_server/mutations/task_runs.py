"""Finding or creating a task run, and renaming it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphql import GraphQLInputType, GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLInt, GraphQLString
from sqlalchemy import select, update

from flowherd_server.call import Call
from flowherd_server.errors import Refused, not_found
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.runs.create_task_runs import UNMAPPED, create_task_runs
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW_RUN, TASK, TASK_RUN


def _get_or_create(call: Call, given: Input) -> StoredRow:
    """Return the task run, creating it if needed: a child of a mapped task is created on the first request for it."""
    map_index = given.get("map_index")
    map_index = UNMAPPED if map_index is None else map_index
    if map_index < UNMAPPED:
        raise Refused(f"map_index is {map_index}, but must be {UNMAPPED} or the index of a child")
    known = select(TASK_RUN).where(
        TASK_RUN.c.flow_run_id == given["flow_run_id"],
        TASK_RUN.c.task_id == given["task_id"],
        TASK_RUN.c.map_index == map_index,
    )
    found = call.connection.execute(known).mappings().first()
    if found is None:
        task = _task(call, given)
        create_task_runs(call, given["flow_run_id"], [(task["id"], task["cache_key"])], map_index)
        found = call.connection.execute(known).mappings().one()
    return found


def _task(call: Call, given: Input) -> StoredRow:
    """Return the task, which must belong to the flow of the flow run."""
    flow_run = row_by_id(call.connection, FLOW_RUN, given["flow_run_id"])
    query = select(TASK).where(TASK.c.id == given["task_id"], TASK.c.flow_id == flow_run["flow_id"])
    task = call.connection.execute(query).mappings().first()
    if task is None:
        raise not_found(f"in the flow of flow run {flow_run['id']}, task", given["task_id"])
    return task


def _get_or_create_task_run(call: Call, given: Input) -> Mapping[str, Any]:
    return {"id": _get_or_create(call, given)["id"]}


def _get_or_create_task_run_info(call: Call, given: Input) -> Mapping[str, Any]:
    found = _get_or_create(call, given)
    return {key: found[key] for key in ("id", "version", "serialized_state")}


def _set_task_run_name(call: Call, given: Input) -> Mapping[str, Any]:
    task_run = row_by_id(call.connection, TASK_RUN, given["task_run_id"])
    changed = {"name": given["name"], "updated": call.now}
    call.connection.execute(update(TASK_RUN).where(TASK_RUN.c.id == task_run["id"]), changed)
    return {"success": True}


_WHICH: Mapping[str, GraphQLInputType] = {
    "flow_run_id": GraphQLNonNull(UUID_INPUT),
    "task_id": GraphQLNonNull(UUID_INPUT),
    "map_index": GraphQLInt,
}

OPERATIONS = (
    Operation(
        name="get_or_create_task_run",
        arguments=_WHICH,
        answer={"id": UUID_INPUT},
        handle=_get_or_create_task_run,
    ),
    Operation(
        name="get_or_create_task_run_info",
        arguments=_WHICH,
        answer={"id": UUID_INPUT, "version": GraphQLInt, "serialized_state": JSON_INPUT},
        handle=_get_or_create_task_run_info,
    ),
    Operation(
        name="set_task_run_name",
        arguments={"task_run_id": GraphQLNonNull(UUID_INPUT), "name": GraphQLNonNull(GraphQLString)},
        answer={"success": GraphQLBoolean},
        handle=_set_task_run_name,
    ),
)

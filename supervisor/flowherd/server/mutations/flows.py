"""Registering and archiving flows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from graphql import GraphQLInputType, GraphQLNonNull, GraphQLScalarType
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import RowMapping, func, insert, select, update

from flowherd.server.auto_runs import cancel_waiting_runs
from flowherd.server.documents import FlowDocument, decompress, read_document, slug_of
from flowherd.server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd.server.mutations.schedules import activate_schedule, deactivate_schedule, flow_row
from flowherd.server.operations import Call, Input, Operation
from flowherd.server.refusals import Refused, not_found
from flowherd.server.tables import EDGE, FLOW, FLOW_GROUP, PROJECT, TASK
from flowherd.server.times import SECOND_US


@dataclass(frozen=True)
class _Registration:
    given: Input
    document: FlowDocument


def _prepare_plain(given: Input) -> _Registration:
    return _Registration(given, read_document(given["serialized_flow"]))


def _prepare_compressed(given: Input) -> _Registration:
    return _Registration(given, read_document(decompress(given["serialized_flow"])))


def _create_flow(call: Call, registration: _Registration) -> Mapping[str, Any]:
    given, document = registration.given, registration.document
    project = _project(call, given["project_id"])
    version_group_id = given.get("version_group_id") or _version_group(call, project["id"], document.name)
    group = _flow_group(call, version_group_id, project["tenant_id"])
    key = given.get("idempotency_key")
    live = _live_version(call, version_group_id)
    if key is not None and live is not None and group["settings"].get("idempotency_key") == key:
        return {"id": live}
    flow_id = _insert_flow(call, project, group, document)
    _insert_tasks(call, flow_id, document)
    if key is not None:
        settings = {**group["settings"], "idempotency_key": key}
        call.connection.execute(update(FLOW_GROUP).where(FLOW_GROUP.c.id == group["id"]), {"settings": settings})
    _replace_others(call, version_group_id, flow_id)
    if given.get("set_schedule_active") is not False:
        activate_schedule(call, flow_row(call, flow_id))
    return {"id": flow_id}


def _project(call: Call, project_id: str) -> RowMapping:
    project = call.connection.execute(select(PROJECT).where(PROJECT.c.id == project_id)).mappings().first()
    if project is None:
        raise not_found("project", project_id)
    return project


def _version_group(call: Call, project_id: str, name: str) -> str:
    """Versions of a flow belong together by its name within a project."""
    newest = (
        select(FLOW.c.version_group_id)
        .where(FLOW.c.project_id == project_id, FLOW.c.name == name)
        .order_by(FLOW.c.created.desc(), FLOW.c.seq.desc())
    )
    return call.connection.execute(newest.limit(1)).scalar() or str(uuid4())


def _flow_group(call: Call, name: str, tenant_id: str) -> RowMapping:
    query = select(FLOW_GROUP).where(FLOW_GROUP.c.name == name)
    group = call.connection.execute(query).mappings().first()
    if group is not None:
        return group
    row = {
        "id": str(uuid4()),
        "tenant_id": tenant_id,
        "name": name,
        "default_parameters": {},
        "settings": {},
        "created": call.now,
    }
    call.connection.execute(insert(FLOW_GROUP), row)
    return call.connection.execute(query).mappings().one()


def _live_version(call: Call, version_group_id: str) -> str | None:
    query = select(FLOW.c.id).where(FLOW.c.version_group_id == version_group_id, ~FLOW.c.archived)
    return call.connection.execute(query.order_by(FLOW.c.version.desc()).limit(1)).scalar()


def _insert_flow(call: Call, project: RowMapping, group: RowMapping, document: FlowDocument) -> str:
    highest = select(func.max(FLOW.c.version)).where(FLOW.c.version_group_id == group["name"])
    flow_id = str(uuid4())
    row = {
        "id": flow_id,
        "tenant_id": project["tenant_id"],
        "project_id": project["id"],
        "flow_group_id": group["id"],
        "version_group_id": group["name"],
        "version": (call.connection.execute(highest).scalar() or 0) + 1,
        "name": document.name,
        "description": _text(document.whole.get("description")),
        "archived": False,
        "core_version": _text(document.whole.get("__version__")) or call.caller.core_version,
        "settings": {},
        "environment": document.environment,
        "run_config": document.run_config,
        "storage": document.storage,
        "parameters": document.parameters,
        "serialized_flow": document.whole,
        "schedule": document.schedule,
        "is_schedule_active": False,
        "created": call.now,
        "updated": call.now,
    }
    call.connection.execute(insert(FLOW), row)
    return flow_id


def _insert_tasks(call: Call, flow_id: str, document: FlowDocument) -> None:
    mapped = {slug_of(edge, "downstream_task") for edge in document.edges if edge.get("mapped")}
    ids: dict[str, str] = {}
    rows = []
    for task in document.tasks:
        if task["slug"] not in ids:  # repeats are ignored, as by the real server
            ids[task["slug"]] = str(uuid4())
            rows.append(_task_row(call, flow_id, ids[task["slug"]], task, task["slug"] in mapped))
    if rows:
        call.connection.execute(insert(TASK), rows)
    edges = [_edge_row(flow_id, ids, edge) for edge in document.edges]
    if edges:
        call.connection.execute(insert(EDGE), edges)


def _task_row(call: Call, flow_id: str, task_id: str, task: Mapping[str, Any], mapped: bool) -> dict[str, Any]:
    retries, delay_s, tags = task.get("max_retries"), task.get("retry_delay"), task.get("tags")
    return {
        "id": task_id,
        "flow_id": flow_id,
        "slug": task["slug"],
        "name": _text(task.get("name")),
        "description": _text(task.get("description")),
        "type": _text(task.get("type")),
        "mapped": mapped,
        "max_retries": retries if isinstance(retries, int) else None,
        "retry_delay": round(delay_s * SECOND_US) if isinstance(delay_s, (int, float)) else None,
        "cache_key": _text(task.get("cache_key")),
        "tags": tags if isinstance(tags, list) else [],
        "created": call.now,
    }


def _edge_row(flow_id: str, ids: Mapping[str, str], edge: Mapping[str, Any]) -> dict[str, Any]:
    ends = {}
    for end in ("upstream_task", "downstream_task"):
        slug = slug_of(edge, end)
        if slug is None or slug not in ids:
            raise Refused(f"an edge names the task {slug!r} as its {end}, but the flow has no such task")
        ends[f"{end}_id"] = ids[slug]
    return {
        "id": str(uuid4()),
        "flow_id": flow_id,
        "key": _text(edge.get("key")),
        "mapped": edge.get("mapped") is True,
        **ends,
    }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _replace_others(call: Call, version_group_id: str, flow_id: str) -> None:
    """Archive the versions before. Runs of them that people created and that wait are kept, and run as they were made.

    The real server cancels these; here somebody's run for tonight is not lost because the flow is registered again.
    """
    others = select(FLOW.c.id).where(
        FLOW.c.version_group_id == version_group_id, FLOW.c.id != flow_id, ~FLOW.c.archived
    )
    for other in call.connection.execute(others).scalars().all():
        _archive(call, other)


def _archive(call: Call, flow_id: str) -> None:
    deactivate_schedule(call, flow_id)
    call.connection.execute(update(FLOW).where(FLOW.c.id == flow_id), {"archived": True, "updated": call.now})


def _archive_flow(call: Call, given: Input) -> Mapping[str, Any]:
    """No run of it is started any more; runs that go on are let be."""
    flow_id = flow_row(call, given["flow_id"])["id"]
    _archive(call, flow_id)
    cancel_waiting_runs(call, flow_id, "Cancelled because its flow was archived.")
    return {"success": True}


def _create_arguments(serialized_flow: GraphQLScalarType) -> dict[str, GraphQLInputType]:
    return {
        "project_id": GraphQLNonNull(UUID_INPUT),
        "serialized_flow": GraphQLNonNull(serialized_flow),
        "set_schedule_active": GraphQLBoolean,
        "version_group_id": GraphQLString,
        "idempotency_key": GraphQLString,
    }


OPERATIONS = (
    Operation(
        name="create_flow",
        arguments=_create_arguments(JSON_INPUT),
        answer={"id": UUID_INPUT},
        handle=_create_flow,
        prepare=_prepare_plain,
    ),
    Operation(
        name="create_flow_from_compressed_string",
        arguments=_create_arguments(GraphQLString),
        answer={"id": UUID_INPUT},
        handle=_create_flow,
        prepare=_prepare_compressed,
    ),
    Operation(
        name="archive_flow",
        arguments={"flow_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_archive_flow,
    ),
)

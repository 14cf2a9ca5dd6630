"""Registering, archiving and deleting flows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from graphql import GraphQLInputType, GraphQLNonNull, GraphQLScalarType
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import ColumnElement, delete, func, insert, select, update

from flowherd.states import FINISHED
from flowherd_server.call import Call
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import JSON_INPUT, UUID_INPUT
from flowherd_server.mutations.flow_document import FlowDocument, decompress, read_document
from flowherd_server.mutations.flow_graph import add_edges, add_tasks
from flowherd_server.mutations.schedule_switches import activate_schedule, deactivate_schedule
from flowherd_server.runs.flow_switches import flow_settings
from flowherd_server.schedules.auto_runs import cancel_waiting_runs
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN, PROJECT


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
    project = row_by_id(call.connection, PROJECT, given["project_id"])
    version_group_id = given.get("version_group_id") or _version_group(call, project["id"], document.name)
    group = _flow_group(call, version_group_id, project["tenant_id"])
    key = given.get("idempotency_key")
    live = _live_version(call, version_group_id)
    if key is not None and live is not None and group["settings"].get("idempotency_key") == key:
        return {"id": live}
    flow_id = _insert_flow(call, project, group, registration)
    add_tasks(call, flow_id, document.tasks)
    add_edges(call, flow_id, document.edges)
    if key is not None:
        settings = {**group["settings"], "idempotency_key": key}
        call.connection.execute(update(FLOW_GROUP).where(FLOW_GROUP.c.id == group["id"]), {"settings": settings})
    _replace_others(call, version_group_id, flow_id)
    if given.get("set_schedule_active") is not False:
        activate_schedule(call, row_by_id(call.connection, FLOW, flow_id))
    return {"id": flow_id}


def register_flow(call: Call, project_id: str, document: FlowDocument, *, activate: bool) -> StoredRow:
    """Register a flow, or its next version, and return its row; `activate` switches its schedule on."""
    given = {"project_id": project_id, "set_schedule_active": activate}
    flow_id = _create_flow(call, _Registration(given, document))["id"]
    return row_by_id(call.connection, FLOW, flow_id, ("serialized_flow",))


def _version_group(call: Call, project_id: str, name: str) -> str:
    """Return the version group of the flow of this name in the project, or a new one."""
    newest = (
        select(FLOW.c.version_group_id)
        .where(FLOW.c.project_id == project_id, FLOW.c.name == name)
        .order_by(FLOW.c.created.desc(), FLOW.c.seq.desc())
    )
    return call.connection.execute(newest.limit(1)).scalar() or str(uuid4())


def _flow_group(call: Call, name: str, tenant_id: str) -> StoredRow:
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


def _insert_flow(call: Call, project: StoredRow, group: StoredRow, registration: _Registration) -> str:
    document = registration.document
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
        "description": registration.given.get("description") or _text(document.whole.get("description")),
        "archived": False,
        "core_version": _text(document.whole.get("__version__")) or call.caller.core_version,
        "settings": flow_settings(group["settings"], document.rules),
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


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _replace_others(call: Call, version_group_id: str, flow_id: str) -> None:
    """Archive the earlier versions. Their waiting runs that people created are kept and run with their own version.

    The dialect's real server cancels these runs; here a run that is scheduled for tonight is not lost if the flow is
    registered again, nor is one of the schedule that is due and that no agent has taken yet.
    """
    others = select(FLOW.c.id).where(
        FLOW.c.version_group_id == version_group_id, FLOW.c.id != flow_id, ~FLOW.c.archived
    )
    for other in call.connection.execute(others).scalars().all():
        _archive(call, other, keep_due=True)


def _archive(call: Call, flow_id: str, *, keep_due: bool = False) -> None:
    deactivate_schedule(call, flow_id, keep_due=keep_due)
    call.connection.execute(update(FLOW).where(FLOW.c.id == flow_id), {"archived": True, "updated": call.now})


def _archive_flow(call: Call, given: Input) -> Mapping[str, Any]:
    """Archive the flow and cancel its Scheduled runs; active runs go on."""
    archive_flow(call, row_by_id(call.connection, FLOW, given["flow_id"])["id"])
    return {"success": True}


def archive_flow(call: Call, flow_id: str) -> int:
    """Archive a flow and cancel its Scheduled runs. Returns how many these were."""
    _archive(call, flow_id)
    return cancel_waiting_runs(call, flow_id, "Cancelled because its flow was archived.")


def _delete_flow(call: Call, given: Input) -> Mapping[str, Any]:
    """Delete the flow with its runs; agents are woken to stop its active runs."""
    flow = row_by_id(call.connection, FLOW, given["flow_id"])
    delete_flows(call, FLOW.c.id == flow["id"])
    return {"success": True}


def delete_flows(call: Call, which: ColumnElement[bool]) -> None:
    """Delete the flows that match `which`, and flow groups that no flow is left in."""
    flows = select(FLOW.c.id).where(which)
    agents = select(FLOW_RUN.c.agent_id).where(FLOW_RUN.c.flow_id.in_(flows), FLOW_RUN.c.state.not_in(sorted(FINISHED)))
    call.effects.agents.update(agent for agent in call.connection.execute(agents.distinct()).scalars() if agent)
    groups = call.connection.execute(select(FLOW.c.flow_group_id).where(which).distinct()).scalars().all()
    call.connection.execute(delete(FLOW).where(which))
    empty = FLOW_GROUP.c.id.in_(groups), ~select(FLOW.c.id).where(FLOW.c.flow_group_id == FLOW_GROUP.c.id).exists()
    call.connection.execute(delete(FLOW_GROUP).where(*empty))


def _create_arguments(serialized_flow: GraphQLScalarType) -> dict[str, GraphQLInputType]:
    return {
        "project_id": GraphQLNonNull(UUID_INPUT),
        "serialized_flow": GraphQLNonNull(serialized_flow),
        "set_schedule_active": GraphQLBoolean,
        "version_group_id": GraphQLString,
        "idempotency_key": GraphQLString,
        "description": GraphQLString,
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
    Operation(
        name="delete_flow",
        arguments={"flow_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete_flow,
    ),
)

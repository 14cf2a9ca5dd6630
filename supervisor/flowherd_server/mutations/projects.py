"""Projects, each of which holds flows of a tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLBoolean, GraphQLString
from sqlalchemy import insert, select

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.mutations.flows import delete_flows
from flowherd_server.store.row_lookup import delete_row, tenant_id_of
from flowherd_server.store.tables import FLOW, PROJECT

#: Prefect's client looks for this exact text, and then uses the existing project.
_DUPLICATE = "Uniqueness violation."


def _create_project(call: Call, given: Input) -> Mapping[str, Any]:
    tenant_id = tenant_id_of(call.connection, call.caller, given.get("tenant_id"))
    name = given["name"]
    if not name.strip():
        raise Refused("a project's name cannot be empty")
    if project_named(call, tenant_id, name) is not None:
        raise Refused(_DUPLICATE)
    return {"id": add_project(call, tenant_id, name, given.get("description"))}


def project_named(call: Call, tenant_id: str, name: str) -> str | None:
    """Return the id of the tenant's project with this name; None if there is none."""
    same = select(PROJECT.c.id).where(PROJECT.c.tenant_id == tenant_id, PROJECT.c.name == name)
    found: str | None = call.connection.execute(same).scalar()
    return found


def add_project(call: Call, tenant_id: str, name: str, description: str | None = None) -> str:
    """Store a new project and return its id."""
    project_id = str(uuid4())
    row = {"id": project_id, "tenant_id": tenant_id, "name": name, "description": description, "created": call.now}
    call.connection.execute(insert(PROJECT), row)
    return project_id


def _delete_project(call: Call, given: Input) -> Mapping[str, Any]:
    """Delete the project with its flows and their runs."""
    project_id = given["project_id"]
    delete_flows(call, FLOW.c.project_id == project_id)
    delete_row(call.connection, PROJECT, project_id)
    return {"success": True}


OPERATIONS = (
    Operation(
        name="create_project",
        arguments={
            "tenant_id": UUID_INPUT,
            "name": GraphQLNonNull(GraphQLString),
            "description": GraphQLString,
        },
        answer={"id": UUID_INPUT},
        handle=_create_project,
    ),
    Operation(
        name="delete_project",
        arguments={"project_id": GraphQLNonNull(UUID_INPUT)},
        answer={"success": GraphQLBoolean},
        handle=_delete_project,
    ),
)

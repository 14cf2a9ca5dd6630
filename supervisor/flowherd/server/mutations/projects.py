"""Tenants' projects: what flows are kept in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLString
from sqlalchemy import Connection, insert, select

from flowherd.server.graphql.scalars import UUID_INPUT
from flowherd.server.operations import Call, Input, Operation
from flowherd.server.refusals import Refused, not_found
from flowherd.server.tables import PROJECT, TENANT

#: The exact text that Prefect's client looks for before it goes on with the project that is there.
_DUPLICATE = "Uniqueness violation."


def tenant_of(connection: Connection, given: str | None) -> str:
    """The tenant that is meant: the given one, else the first, which is there from the start."""
    query = select(TENANT.c.id).order_by(TENANT.c.seq).limit(1)
    if given is not None:
        query = query.where(TENANT.c.id == given)
    found: str | None = connection.execute(query).scalar()
    if found is None:
        raise not_found("tenant", given)
    return found


def _create_project(call: Call, given: Input) -> Mapping[str, Any]:
    tenant_id = tenant_of(call.connection, given.get("tenant_id"))
    name = given["name"]
    if not name.strip():
        raise Refused("a project's name cannot be empty")
    same = select(PROJECT.c.id).where(PROJECT.c.tenant_id == tenant_id, PROJECT.c.name == name)
    if call.connection.execute(same).first() is not None:
        raise Refused(_DUPLICATE)
    row = {
        "id": str(uuid4()),
        "tenant_id": tenant_id,
        "name": name,
        "description": given.get("description"),
        "created": call.now,
    }
    call.connection.execute(insert(PROJECT), row)
    return row


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
)

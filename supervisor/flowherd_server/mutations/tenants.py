"""Tenants. One is there from the start; the dialect's clients take the first row for theirs, so the order is stable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLString
from sqlalchemy import Connection, RowMapping, insert, select

from flowherd_server.errors import Refused, not_found
from flowherd_server.graphql.operations import Call, Caller, Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.store.tables import TENANT

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def tenant_of(connection: Connection, caller: Caller, given: str | None = None) -> str:
    """The id of the tenant that is meant: the given one, else the caller's, else the first."""
    return str(tenant_row(connection, caller, given)["id"])


def tenant_row(connection: Connection, caller: Caller, given: str | None = None) -> RowMapping:
    """The tenant that is meant. Raises Refused when there is none with this id."""
    wanted = caller.tenant_id if given is None else given
    query = select(TENANT).order_by(TENANT.c.seq).limit(1)
    if wanted is not None:
        query = query.where(TENANT.c.id == wanted)
    found = connection.execute(query).mappings().first()
    if found is None:
        raise not_found("tenant", wanted)
    return found


def _create_tenant(call: Call, given: Input) -> Mapping[str, Any]:
    name, slug = given["name"], given["slug"]
    if not name.strip():
        raise Refused("a tenant's name cannot be empty")
    if _SLUG.fullmatch(slug) is None:
        raise Refused(f"a tenant's slug is small letters, digits and single hyphens between them, not {slug!r}")
    known = call.connection.execute(select(TENANT).where(TENANT.c.slug == slug)).mappings().first()
    if known is None:
        row = {"id": str(uuid4()), "slug": slug, "name": name, "created": call.now}
        call.connection.execute(insert(TENANT), row)
        return {"id": row["id"]}
    if known["name"] != name:
        raise Refused(f"the slug {slug!r} is taken by the tenant {known['name']!r}")
    # The tenant that everybody makes first is there already, and a lost answer is asked for again.
    return {"id": known["id"]}


OPERATIONS = (
    Operation(
        name="create_tenant",
        arguments={"name": GraphQLNonNull(GraphQLString), "slug": GraphQLNonNull(GraphQLString)},
        answer={"id": UUID_INPUT},
        handle=_create_tenant,
    ),
)

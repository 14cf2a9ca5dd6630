"""Tenants. The first one exists from the start, and clients that name none use it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from graphql import GraphQLNonNull
from graphql.type import GraphQLString
from sqlalchemy import insert, select

from flowherd_server.call import Call
from flowherd_server.errors import Refused
from flowherd_server.graphql.operations import Input, Operation
from flowherd_server.graphql.scalars import UUID_INPUT
from flowherd_server.store.tables import TENANT

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def _create_tenant(call: Call, given: Input) -> Mapping[str, Any]:
    name, slug = given["name"], given["slug"]
    if not name.strip():
        raise Refused("a tenant's name cannot be empty")
    if _SLUG.fullmatch(slug) is None:
        raise Refused(
            f"a tenant's slug must be lower-case letters and digits with single hyphens between them, not {slug!r}"
        )
    known = call.connection.execute(select(TENANT).where(TENANT.c.slug == slug)).mappings().first()
    if known is None:
        row = {"id": str(uuid4()), "slug": slug, "name": name, "created": call.now}
        call.connection.execute(insert(TENANT), row)
        return {"id": row["id"]}
    if known["name"] != name:
        raise Refused(f"the slug {slug!r} is taken by the tenant {known['name']!r}")
    # Prefect's clients create a tenant first of all, and repeat the request if its answer is lost.
    return {"id": known["id"]}


OPERATIONS = (
    Operation(
        name="create_tenant",
        arguments={"name": GraphQLNonNull(GraphQLString), "slug": GraphQLNonNull(GraphQLString)},
        answer={"id": UUID_INPUT},
        handle=_create_tenant,
    ),
)

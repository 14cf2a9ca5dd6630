"""Tables of which a tenant has one row for each name: setting one that is there replaces its value."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Table, delete, insert, select, update

from flowherd_server.errors import not_found
from flowherd_server.graphql.operations import Call
from flowherd_server.mutations.tenants import tenant_of


def put(call: Call, table: Table, key: str, name: str, **columns: Any) -> str:
    """Store `columns` in the row whose `key` is `name`; its id."""
    tenant_id = tenant_of(call.connection, call.caller)
    known = select(table.c.id).where(table.c.tenant_id == tenant_id, table.c[key] == name)
    row_id: str | None = call.connection.execute(known).scalar()
    changed = {**columns, "updated": call.now}
    if row_id is None:
        row_id = str(uuid4())
        row = {"id": row_id, "tenant_id": tenant_id, key: name, "created": call.now, **changed}
        call.connection.execute(insert(table), row)
    else:
        call.connection.execute(update(table).where(table.c.id == row_id), changed)
    return row_id


def take_away(call: Call, table: Table, row_id: str) -> None:
    """Delete the row. Raises Refused when there is none."""
    if not call.connection.execute(delete(table).where(table.c.id == row_id)).rowcount:
        raise not_found(table.name.replace("_", " "), row_id)

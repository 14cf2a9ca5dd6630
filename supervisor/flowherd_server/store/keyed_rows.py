"""Tables with one row for each name within a tenant: key-value pairs, secrets, limits of tags."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Table, insert, select, update

from flowherd_server.call import Call, Caller
from flowherd_server.errors import NOT_FOUND, Refused
from flowherd_server.store.row_lookup import tenant_id_of
from flowherd_server.store.tables import SECRET

#: Prefect's clients recognise by these words that there is no such secret.
NO_SUCH_SECRET = "No value found for the requested key"


def put_row(call: Call, table: Table, key: str, name: str, **columns: Any) -> str:
    """Store `columns` in the row whose column `key` is `name`, creating it if needed. Returns the row's id."""
    tenant_id = tenant_id_of(call.connection, call.caller)
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


def secret_value(connection: Connection, caller: Caller, name: str) -> Any:
    """Return the value of a secret. Raises Refused if there is no secret of that name."""
    tenant_id = tenant_id_of(connection, caller)
    query = select(SECRET.c.value).where(SECRET.c.tenant_id == tenant_id, SECRET.c.name == name)
    found = connection.execute(query).first()
    if found is None:
        raise Refused(NO_SUCH_SECRET, NOT_FOUND)
    return found.value


def secret_names(connection: Connection, caller: Caller) -> list[str]:
    """Return the names of all secrets of the caller's tenant, sorted."""
    query = select(SECRET.c.name).where(SECRET.c.tenant_id == tenant_id_of(connection, caller))
    return list(connection.execute(query.order_by(SECRET.c.name)).scalars())

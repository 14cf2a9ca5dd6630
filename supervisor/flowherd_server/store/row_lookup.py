"""Finding and deleting single rows by their id; an id that no row has is refused."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Table, delete, select

from flowherd_server.call import Caller
from flowherd_server.errors import not_found
from flowherd_server.store.plain import StoredRow, find_row, plain
from flowherd_server.store.tables import TENANT


def row_by_id(connection: Connection, table: Table, row_id: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the row of `table` with this id, without some of its columns. Raises Refused if there is none."""
    row = find_row(connection, table, row_id, without)
    if row is None:
        raise not_found(words_of(table), row_id)
    return row


def numbers_of(connection: Connection, table: Table, ids: set[str]) -> dict[str, int]:
    """Return the `seq` of the rows of `table` with these ids. Raises Refused if there is none for an id."""
    if not ids:
        return {}
    query = f"SELECT id, seq FROM {table.name} WHERE id IN (SELECT value FROM json_each(?))"
    found = dict(plain(connection).execute(query, (json.dumps(sorted(ids)),)))
    for unknown in sorted(ids - found.keys()):
        raise not_found(words_of(table), unknown)
    return found


def delete_row(connection: Connection, table: Table, row_id: str) -> None:
    """Delete the row of `table` with this id. Raises Refused if there is none."""
    if not connection.execute(delete(table).where(table.c.id == row_id)).rowcount:
        raise not_found(words_of(table), row_id)


def words_of(table: Table) -> str:
    """Return what messages call a row of `table`, such as "flow run"."""
    return table.name.replace("_", " ")


def tenant_row(connection: Connection, caller: Caller, given: str | None = None) -> StoredRow:
    """Return the tenant with the id `given`, else the caller's, else the first one.

    Raises Refused if there is no tenant with that id.
    """
    wanted = caller.tenant_id if given is None else given
    if wanted is not None:
        return row_by_id(connection, TENANT, wanted)
    return connection.execute(select(TENANT).order_by(TENANT.c.seq).limit(1)).mappings().one()


def tenant_id_of(connection: Connection, caller: Caller, given: str | None = None) -> str:
    """Return the id of the tenant that `tenant_row` finds."""
    return str(tenant_row(connection, caller, given)["id"])

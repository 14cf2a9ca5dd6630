"""Upgrades a database file of an earlier release to the tables of this one, in the transaction that opens it.

Releases only add tables, indexes, and columns that may be null. So what is missing is found by comparison, and there is
no list of steps to maintain. A release that has to convert stored data adds that here, by the file's schema version.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Table
from sqlalchemy.schema import CreateColumn

from flowherd_server.store.tables import METADATA, stored_tables, views


def bring_up_to_date(connection: Connection) -> None:
    """Add the tables, columns and indexes that the file lacks; a new file lacks all of them."""
    METADATA.create_all(connection, stored_tables())
    for table in stored_tables():
        for column in _missing_columns(connection, table):
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f'ALTER TABLE "{table.name}" ADD COLUMN {definition}')
        for index in table.indexes:
            index.create(connection, checkfirst=True)
    for view in views():
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {view.name}")
        connection.exec_driver_sql(f"CREATE VIEW {view.name} AS {view.info['view']}")


def _missing_columns(connection: Connection, table: Table) -> list[Column[object]]:
    # table_xinfo, because table_info leaves generated columns out.
    rows = connection.exec_driver_sql(f'PRAGMA table_xinfo("{table.name}")').mappings()
    known = {row["name"] for row in rows}
    return [column for column in table.columns if column.name not in known]

"""Upgrades a database file of an earlier release to the tables of this one, in the transaction that opens it.

Releases only add tables and columns that may be null, and choose other indexes. So what is missing is found by
comparison, and there is no list of steps to maintain. A release that has to convert stored data adds that here, by the
file's schema version.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Table
from sqlalchemy.schema import CreateColumn, CreateIndex

from flowherd_server.store import account_table  # noqa: F401 - its table is one of METADATA
from flowherd_server.store.notification_tables import watch_ends
from flowherd_server.store.run_counts import keep_counts
from flowherd_server.store.statistics import set_statistics
from flowherd_server.store.tables import METADATA, stored_tables
from flowherd_server.store.views import views


def bring_up_to_date(connection: Connection) -> None:
    """Add the tables, columns and indexes that the file lacks; a new file lacks all of them."""
    _drop_former_indexes(connection)
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
    keep_counts(connection)
    watch_ends(connection)
    set_statistics(connection)


def _drop_former_indexes(connection: Connection) -> None:
    """Drop the indexes that this release has not, or has otherwise, because each makes every write slower."""
    for table in stored_tables():
        wanted = {str(CreateIndex(index).compile(dialect=connection.dialect)) for index in table.indexes}
        # Indexes of UNIQUE constraints have no SQL.
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL"
        for name, text in connection.exec_driver_sql(query, (table.name,)).all():
            if text not in wanted:
                connection.exec_driver_sql(f'DROP INDEX "{name}"')


def _missing_columns(connection: Connection, table: Table) -> list[Column[object]]:
    # table_xinfo, because table_info leaves generated columns out.
    rows = connection.exec_driver_sql(f'PRAGMA table_xinfo("{table.name}")').mappings()
    known = {row["name"] for row in rows}
    return [column for column in table.columns if column.name not in known]

"""What SQLite's planner is told about the tables: the sizes that they have at a million runs, as constants.

Without statistics the planner takes any two indexes for equally good, and may look for one of a hundred thousand failed
runs instead of one of two runs with a given id. Measured statistics (ANALYZE) would let plans change from one day to
the next, so those of a large database are always used (https://sqlite.org/queryplanner-ng.html, section 4).
"""

from __future__ import annotations

from sqlalchemy import Connection

#: {table: number of rows}.
_ROWS = {
    "flow_run": 1_000_000,
    "run_state": 4_000_000,
    "task_run": 1_000_000,
    "task_run_state": 4_000_000,
    "log_line": 10_000_000,
}
#: {column: number of rows with the same value}, of any of these tables; other columns have a value for each row.
_SAME = {
    "tenant_id": 1_000_000,
    "agent_id": 200_000,
    "state": 100_000,
    "labels": 50_000,
    "flow_id": 20_000,
    "task_id": 20_000,
    "idempotency_key": 10_000,
    "name": 200,
    "level": 100,
    "run": 10,
    "attempt": 10,
    "flow_run_id": 10,
    "task_run": 10,
    "task_run_id": 10,
}
#: Number of rows in an index that only contains some of them.
_FEW_ROWS = 5_000
_WITHOUT_ROWID = frozenset({"run_state", "log_line"})


def set_statistics(connection: Connection) -> None:
    """Store the statistics of all indexes of the large tables, unless they are stored already."""
    wanted = {(table, *each) for table in _ROWS for each in _indexes(connection, table)}
    known = "SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'"
    if connection.exec_driver_sql(known).first() is None:
        connection.exec_driver_sql("ANALYZE tenant")  # which is the only way to make the table of statistics
    stored = connection.exec_driver_sql("SELECT tbl, idx, stat FROM sqlite_stat1").all()
    if {tuple(row) for row in stored} == wanted:
        return
    connection.exec_driver_sql("DELETE FROM sqlite_stat1")
    insert = "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES (?, ?, ?)"
    connection.exec_driver_sql(insert, sorted(wanted))
    connection.exec_driver_sql("ANALYZE sqlite_master")  # has this connection read them


def _indexes(connection: Connection, table: str) -> list[tuple[str, str]]:
    """Return the indexes of a table with their statistics, in the form of sqlite_stat1 (fileformat2.html)."""
    found = []
    for index in connection.exec_driver_sql(f'PRAGMA index_list("{table}")').mappings().all():
        numbers = [_FEW_ROWS if index["partial"] else _ROWS[table]]
        for column in connection.exec_driver_sql(f'PRAGMA index_info("{index["name"]}")').mappings().all():
            numbers.append(min(numbers[-1], _SAME.get(column["name"], 1)))
        if index["unique"]:
            numbers[-1] = 1
        # The primary key of a table without rowids has the table's name in the statistics.
        without_rowid = table in _WITHOUT_ROWID and index["origin"] == "pk"
        found.append((table if without_rowid else index["name"], " ".join(map(str, numbers))))
    return found

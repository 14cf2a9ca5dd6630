"""How many flow runs of each flow are in each state: kept up to date by triggers, so that nobody has to count them.

Triggers, because rows are also deleted by foreign keys.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, func, select

from flowherd_server.store.columns import UuidText
from flowherd_server.store.tables import FLOW_RUN

#: Not among the tables of GraphQL. A state in which the flow has no run has no row.
RUN_COUNT = Table(
    "flow_run_count",
    MetaData(),
    Column("flow_id", UuidText, primary_key=True),
    Column("state", String, primary_key=True),
    Column("runs", Integer, nullable=False),
    sqlite_with_rowid=False,
)

_ADD = (
    "INSERT INTO flow_run_count (flow_id, state, runs) VALUES (NEW.flow_id, NEW.state, 1) "
    "ON CONFLICT (flow_id, state) DO UPDATE SET runs = runs + 1;"
)
_OLD = "flow_id = OLD.flow_id AND state = OLD.state"
_SUBTRACT = (
    f"UPDATE flow_run_count SET runs = runs - 1 WHERE {_OLD}; DELETE FROM flow_run_count WHERE {_OLD} AND runs <= 0;"
)
_TRIGGERS = {
    "flow_run_counted_insert": f"AFTER INSERT ON flow_run BEGIN {_ADD} END",
    "flow_run_counted_delete": f"AFTER DELETE ON flow_run BEGIN {_SUBTRACT} END",
    "flow_run_counted_update": (
        "AFTER UPDATE OF flow_id, state ON flow_run "
        f"WHEN OLD.state <> NEW.state OR OLD.flow_id <> NEW.flow_id BEGIN {_SUBTRACT} {_ADD} END"
    ),
}


def keep_counts(connection: Connection) -> None:
    """Create the table and its triggers, and count the runs once, unless that was done before."""
    made = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").scalars()
    missing = _TRIGGERS.keys() - set(made)
    if not missing:
        return
    RUN_COUNT.create(connection, checkfirst=True)
    for name in sorted(missing):
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {_TRIGGERS[name]}")
    connection.exec_driver_sql("DELETE FROM flow_run_count")
    counted = f"SELECT flow_id, state, count(*) FROM {FLOW_RUN.name} GROUP BY flow_id, state"
    connection.exec_driver_sql(f"INSERT INTO flow_run_count {counted}")


def runs_by_state(connection: Connection) -> dict[str, int]:
    """Return how many runs are in each state; a state without any is missing."""
    query = select(RUN_COUNT.c.state, func.sum(RUN_COUNT.c.runs).label("runs")).group_by(RUN_COUNT.c.state)
    return {row.state: int(row.runs) for row in connection.execute(query)}

"""The views, by which GraphQL shows tables that are stored in another form in that of the dialect."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, String, Table

from flowherd_server.store.columns import Json, TimeUs, UuidText, recorded_state
from flowherd_server.store.log_codes import LEVELS, STREAMS, sql_names
from flowherd_server.store.tables import METADATA

_STREAM = sql_names("log_line.stream", STREAMS)
_LEVEL = sql_names("log_line.level", LEVELS, "'Level ' || log_line.level")
_TOKEN = (
    "SELECT CASE name WHEN '' THEN '' ELSE name || ':' END FROM log_attempt "
    "WHERE log_attempt.run = log_line.run AND log_attempt.attempt = log_line.attempt"
)
_LOG = f"""
SELECT
    log_line.id AS id,
    log_line.run AS run,
    flow_run.id AS flow_run_id,
    task_run.id AS task_run_id,
    log_line.timestamp AS timestamp,
    CASE log_line.name WHEN '' THEN {_STREAM} ELSE log_line.name END AS name,
    coalesce(log_line.level_name, {_LEVEL}) AS level,
    log_line.level AS level_code,
    log_line.message AS message,
    coalesce(log_line.info, '{{"stream":"' || {_STREAM} || '"}}') AS info,
    ({_TOKEN}) || coalesce(log_line.mark, log_line.offset) AS line_id,
    log_line.number AS number,
    {_STREAM} AS stream,
    log_line.attempt AS journal
FROM log_line
JOIN flow_run ON flow_run.seq = log_line.run
LEFT JOIN task_run ON task_run.seq = log_line.task_run
"""
# The id of a state is that of its run, with the number of the run and the state's version in place of its end.
_FLOW_RUN_STATE = """
SELECT
    (run_state.run << 32) | run_state.version AS seq,
    substr(flow_run.id, 1, 24) || printf('%012x', ((run_state.run << 16) | (run_state.version & 65535))) AS id,
    run_state.run AS run,
    flow_run.id AS flow_run_id,
    run_state.version AS version,
    run_state.state AS state,
    run_state.timestamp AS timestamp,
    run_state.start_time AS start_time,
    run_state.message AS message,
    run_state.serialized_state AS serialized_state,
    run_state.created AS created
FROM run_state
JOIN flow_run ON flow_run.seq = run_state.run
"""


def _view(name: str, query: str, *columns: Any) -> Table:
    """Describe a view: what GraphQL shows in place of tables that are stored in another form.

    Column(info={"run_of": f}) names the function from a row's id to its `run`, by which the row is found.
    """
    return Table(name, METADATA, *columns, info={"view": query})


FLOW_RUN_STATE = _view(
    "flow_run_state",
    _FLOW_RUN_STATE,
    Column("seq", BigInteger, nullable=False, info={"hidden": True}),
    Column("id", UuidText, nullable=False, info={"run_of": lambda row_id: int(row_id[-12:], 16) >> 16}),
    Column("run", Integer, nullable=False, info={"hidden": True}),
    Column("flow_run_id", UuidText, nullable=False),
    Column("version", Integer, nullable=False),
    *recorded_state(),
)
LOG = _view(
    "log",
    _LOG,
    Column("id", BigInteger, nullable=False, info={"run_of": lambda row_id: row_id >> 32}),
    Column("run", Integer, nullable=False, info={"hidden": True}),
    Column("flow_run_id", UuidText, nullable=False),
    Column("task_run_id", UuidText),
    Column("timestamp", TimeUs, nullable=False),
    Column("name", String),
    Column("level", String, nullable=False),
    Column("level_code", Integer, nullable=False, info={"hidden": True}),
    Column("message", String, nullable=False),
    Column("info", Json),
    Column("line_id", String),
    # Place of the line in the order of arrival within its run, from 1.
    Column("number", Integer, nullable=False),
    Column("stream", String),
    # Number of the journal among those of the run, from 1; 0 for lines that are from none.
    Column("journal", Integer, nullable=False),
)


def views() -> list[Table]:
    """Return the views."""
    return [table for table in METADATA.sorted_tables if "view" in table.info]


def visible_tables() -> list[Table]:
    """Return the tables and views that GraphQL shows."""
    return [table for table in METADATA.tables.values() if not table.info.get("hidden")]

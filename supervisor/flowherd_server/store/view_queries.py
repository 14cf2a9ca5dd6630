"""The queries of the views, by which GraphQL shows tables in the dialect's form."""

from __future__ import annotations

from flowherd_server.store.log_codes import LEVELS, STREAMS, sql_names

_STREAM = sql_names("log_line.stream", STREAMS)
_LEVEL = sql_names("log_line.level", LEVELS, "'Level ' || log_line.level")
_TOKEN = (
    "SELECT CASE name WHEN '' THEN '' ELSE name || ':' END FROM log_attempt "
    "WHERE log_attempt.run = log_line.run AND log_attempt.attempt = log_line.attempt"
)
LOG_VIEW = f"""
SELECT
    log_line.id AS id,
    log_line.run AS run,
    flow_run.id AS flow_run_id,
    task_run.id AS task_run_id,
    log_line.timestamp AS timestamp,
    CASE log_line.name WHEN '' THEN {_STREAM} ELSE log_line.name END AS name,
    coalesce(log_line.level_name, {_LEVEL}) AS level,
    log_line.message AS message,
    coalesce(log_line.info, '{{"stream":"' || {_STREAM} || '"}}') AS info,
    ({_TOKEN}) || coalesce(log_line.mark, log_line.offset) AS line_id,
    log_line.number AS number,
    {_STREAM} AS stream
FROM log_line
JOIN flow_run ON flow_run.seq = log_line.run
LEFT JOIN task_run ON task_run.seq = log_line.task_run
"""

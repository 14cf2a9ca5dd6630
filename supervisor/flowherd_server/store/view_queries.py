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
    log_line.level AS level_code,
    log_line.message AS message,
    coalesce(log_line.info, '{{"stream":"' || {_STREAM} || '"}}') AS info,
    ({_TOKEN}) || coalesce(log_line.mark, log_line.offset) AS line_id,
    log_line.number AS number,
    {_STREAM} AS stream
FROM log_line
JOIN flow_run ON flow_run.seq = log_line.run
LEFT JOIN task_run ON task_run.seq = log_line.task_run
"""
# The id of a state is that of its run, with the number of the run and the state's version in place of its end.
FLOW_RUN_STATE_VIEW = """
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

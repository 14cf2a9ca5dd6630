"""The tables that the server stores its data in.

The GraphQL schema and the compiler of its arguments are generated from here, from views.py and from relationships.py,
so clients can select, filter and sort by a new column or relationship at once. Table(info={"hidden": True}) keeps a
table out of GraphQL.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

from flowherd_server.store.columns import (
    DurationUs,
    Json,
    TimeUs,
    UuidText,
    key_columns,
    latest_state,
    recorded_state,
    reference_column,
    schedule_switch,
    time_column,
)
from flowherd_server.store.indexes import FOLLOWS_SCHEDULE, IS_SEVERE, WAITS, add_flow_run_indexes
from flowherd_server.store.log_codes import LEVEL_COUNTERS

#: Version of the tables, kept in the database file; raised when released columns change (migrations.py).
SCHEMA_VERSION = 3

METADATA = MetaData()


def _table(name: str, *columns: Any, hidden: bool = False) -> Table:
    return Table(name, METADATA, *key_columns(), *columns, sqlite_autoincrement=True, info={"hidden": hidden})


def _keyed_table(name: str, key: str, value: Column[Any], hidden: bool = False) -> Table:
    """Make a table with one row for each value of `key` within a tenant (keyed_rows.py)."""
    return _table(
        name,
        reference_column("tenant_id", "tenant"),
        Column(key, String, nullable=False),
        value,
        time_column("created", nullable=False),
        time_column("updated", nullable=False),
        UniqueConstraint("tenant_id", key),
        hidden=hidden,
    )


TENANT = _table(
    "tenant",
    Column("slug", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    time_column("created", nullable=False),
)
PROJECT = _table(
    "project",
    reference_column("tenant_id", "tenant"),
    Column("name", String, nullable=False),
    Column("description", String),
    time_column("created", nullable=False),
    UniqueConstraint("tenant_id", "name"),
)
FLOW_GROUP = _table(
    "flow_group",
    reference_column("tenant_id", "tenant"),
    Column("name", String, nullable=False, unique=True),
    Column("description", String),
    Column("labels", Json),
    Column("run_config", Json),
    Column("schedule", Json),
    Column("default_parameters", Json, nullable=False),
    Column("settings", Json, nullable=False),
    time_column("created", nullable=False),
)
FLOW = _table(
    "flow",
    reference_column("tenant_id", "tenant"),
    reference_column("project_id", "project"),
    reference_column("flow_group_id", "flow_group"),
    Column("version_group_id", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("name", String, nullable=False),
    Column("description", String),
    Column("archived", Boolean, nullable=False),
    Column("core_version", String),
    Column("settings", Json, nullable=False),
    Column("environment", Json),
    Column("run_config", Json),
    Column("storage", Json),
    Column("parameters", Json, nullable=False),
    Column("serialized_flow", Json, nullable=False),
    Column("schedule", Json),
    Column("is_schedule_active", Boolean, nullable=False),
    *schedule_switch(),
    # When an active schedule needs more runs.
    Column("schedule_due", TimeUs, info={"hidden": True}),
    time_column("created", nullable=False),
    time_column("updated", nullable=False),
    UniqueConstraint("version_group_id", "version"),
    Index("flow_by_name", "name"),
    Index("flow_by_project", "project_id"),
    Index("flow_by_group", "flow_group_id"),
    Index("flow_with_due_schedule", "schedule_due", sqlite_where=text(FOLLOWS_SCHEDULE)),
)
TASK = _table(
    "task",
    reference_column("flow_id", "flow"),
    Column("slug", String, nullable=False),
    Column("name", String),
    Column("description", String),
    Column("type", String),
    Column("mapped", Boolean, nullable=False),
    Column("max_retries", Integer),
    Column("retry_delay", DurationUs),
    Column("cache_key", String),
    Column("tags", Json, nullable=False),
    time_column("created", nullable=False),
    UniqueConstraint("flow_id", "slug"),
)
EDGE = _table(
    "edge",
    reference_column("flow_id", "flow"),
    reference_column("upstream_task_id", "task"),
    reference_column("downstream_task_id", "task"),
    Column("key", String),
    Column("mapped", Boolean, nullable=False),
    Index("edge_by_flow", "flow_id"),
    Index("edge_by_upstream_task", "upstream_task_id"),
    Index("edge_by_downstream_task", "downstream_task_id"),
)
FLOW_RUN = _table(
    "flow_run",
    reference_column("tenant_id", "tenant"),
    reference_column("flow_id", "flow"),
    Column("name", String, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("context", Json),
    Column("labels", Json, nullable=False),
    Column("run_config", Json),
    Column("idempotency_key", String),
    Column("auto_scheduled", Boolean, nullable=False),
    Column("created_by", String),
    time_column("scheduled_start_time", nullable=False),
    *latest_state(),
    Column("duration", DurationUs, Computed("end_time - start_time", persisted=False)),
    time_column("heartbeat"),
    Column("times_resurrected", Integer, nullable=False),
    Column("agent_id", UuidText),
    # Claim token of the last claim or report, by which a repeated claim is recognised.
    Column("claim", String, info={"hidden": True}),
    # Id of the run that this one repeats; that run may have been deleted since.
    Column("repeats", UuidText),
    # What of its flow's rules concerns it, as they were when it was created (flowherd/flow_rules.py); null for nothing.
    Column("rules", Json, info={"hidden": True}),
    # Number of its present attempt, from 1; null if it is never tried again.
    Column("attempt", Integer),
    time_column("created", nullable=False),
    time_column("updated", nullable=False),
    # Number of lines of the run's log, in all and by level (log_codes.py), so that nothing has to count them.
    *(
        Column(name, Integer, nullable=False, server_default=text("0"))
        for name in ("log_lines", *sorted(LEVEL_COUNTERS))
    ),
    UniqueConstraint("flow_id", "idempotency_key"),
)
add_flow_run_indexes(FLOW_RUN)
# All states that flow runs have been in. Without ids, which would be more than half of it.
RUN_STATE = Table(
    "run_state",
    METADATA,
    Column("run", Integer, ForeignKey("flow_run.seq", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True),
    *recorded_state(),
    sqlite_with_rowid=False,
    info={"hidden": True},
)
# The attempts of runs that may be tried again, each once it has ended (rules/attempts.py).
FLOW_RUN_ATTEMPT = _table(
    "flow_run_attempt",
    reference_column("flow_run_id", "flow_run"),
    Column("number", Integer, nullable=False),
    # Version of the run's state that the end of the attempt has led to.
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("message", String),
    # One of flowherd_runner.contract.reasons, with its grade.
    Column("reason", String),
    Column("grade", String),
    Column("exit_code", Integer),
    Column("cpu_time", DurationUs),
    Column("peak_memory_bytes", BigInteger),
    Column("agent_id", UuidText),
    Column("claim", String, info={"hidden": True}),
    Column("reported_end", TimeUs, info={"hidden": True}),
    *map(time_column, ("start_time", "end_time", "next_start_time")),
    # Which of the run's journals has its lines, as log.journal.
    Column("journal", Integer),
    time_column("created", nullable=False),
    Index("flow_run_attempt_by_flow_run", "flow_run_id", "number"),
)
TASK_RUN = _table(
    "task_run",
    reference_column("flow_run_id", "flow_run"),
    reference_column("task_id", "task"),
    Column("name", String),
    Column("map_index", Integer, nullable=False),
    Column("cache_key", String),
    *latest_state(),
    time_column("heartbeat"),
    # Claim token of the last claim of a task run that waited, by which a repeated claim is recognised.
    Column("claim", String, info={"hidden": True}),
    time_column("created", nullable=False),
    time_column("updated", nullable=False),
    UniqueConstraint("flow_run_id", "task_id", "map_index"),
    Index("task_run_by_task", "task_id"),
    Index("task_run_by_state", "state", "state_timestamp"),
    Index("task_run_waiting", "flow_run_id", "state_start_time", sqlite_where=text(WAITS)),
)
TASK_RUN_STATE = _table(
    "task_run_state",
    reference_column("task_run_id", "task_run"),
    Column("version", Integer, nullable=False),
    *recorded_state(),
    UniqueConstraint("task_run_id", "version"),
)
# A log may have millions of lines, so its rows refer to runs by number, and their key is what tells a line that is sent
# again (log_lines.py).
LOG_LINE = Table(
    "log_line",
    METADATA,
    Column("run", Integer, ForeignKey("flow_run.seq", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("offset", Integer, primary_key=True),
    Column("number", Integer, nullable=False),
    Column("timestamp", TimeUs, nullable=False),
    Column("level", Integer, nullable=False),
    Column("stream", Integer, nullable=False),
    Column("task_run", Integer, ForeignKey("task_run.seq", ondelete="CASCADE")),
    Column("name", String),
    Column("message", String, nullable=False),
    Column("info", Json),
    # Name of the level, if it does not follow from the number.
    Column("level_name", String),
    # What a line's id has in place of an offset.
    Column("mark", String),
    # Grows with the order of arrival within a run, and is unique in the table.
    Column("id", BigInteger, Computed("(run << 32) | number", persisted=False)),
    Index("log_line_by_arrival", "run", "id", unique=True),
    Index("log_line_by_time", "run", "timestamp"),
    Index("log_line_by_task_run", "task_run", "timestamp", sqlite_where=text("task_run IS NOT NULL")),
    Index("log_line_by_level", "level", "timestamp", sqlite_where=text(IS_SEVERE)),
    sqlite_with_rowid=False,
    info={"hidden": True},
)
# The journals of a run, by the token that the ids of their lines begin with.
LOG_ATTEMPT = Table(
    "log_attempt",
    METADATA,
    Column("run", Integer, ForeignKey("flow_run.seq", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("name", String, nullable=False),
    sqlite_with_rowid=False,
    info={"hidden": True},
)
# What a stream of a run has written of a line that is not finished: one row, replaced by each newer text, and deleted
# when the line is stored.
TEXT_SO_FAR = _table(
    "text_so_far",
    reference_column("flow_run_id", "flow_run"),
    Column("stream", String, nullable=False),
    Column("timestamp", TimeUs, nullable=False),
    Column("name", String),
    Column("level", String, nullable=False),
    Column("message", String, nullable=False),
    UniqueConstraint("flow_run_id", "stream"),
)
AGENT = _table(
    "agent",
    reference_column("tenant_id", "tenant"),
    Column("name", String),
    Column("type", String, nullable=False),
    Column("labels", Json, nullable=False),
    Column("core_version", String),
    Column("agent_config_id", UuidText),
    time_column("last_queried"),
    # What it last reported of itself (flowherd/story/agent_report.py), and when.
    Column("report", Json),
    time_column("reported"),
    time_column("created", nullable=False),
)
AGENT_CONFIG = _table(
    "agent_config",
    reference_column("tenant_id", "tenant"),
    Column("name", String),
    Column("settings", Json, nullable=False),
    time_column("created", nullable=False),
    time_column("updated", nullable=False),
)
TASK_RUN_ARTIFACT = _table(
    "task_run_artifact",
    reference_column("tenant_id", "tenant"),
    reference_column("task_run_id", "task_run"),
    Column("kind", String, nullable=False),
    Column("data", Json, nullable=False),
    time_column("created", nullable=False),
    time_column("updated", nullable=False),
    Index("task_run_artifact_by_task_run", "task_run_id"),
)
KEY_VALUE = _keyed_table("key_value", "key", Column("value", Json))
TASK_TAG_LIMIT = _keyed_table("task_tag_limit", "tag", Column("limit", Integer, nullable=False))
# Hidden, so that secrets can only be read one by one by name, and no filter can be used to guess a value.
SECRET = _keyed_table("secret", "name", Column("value", Json), hidden=True)
# One row about the database itself.
THIS_DATABASE = _table(
    "this_database",
    time_column("created", nullable=False),
    # Grows with each second in which something was stored.
    Column("age", Integer, nullable=False),
    # When a server last found it to be an older copy of what was there before.
    time_column("restored"),
    hidden=True,
)


def insertion_order(table: Table) -> str:
    """Return the name of the column that grows with every row that is added to `table`."""
    return "seq" if "seq" in table.c else "id"


def stored_tables() -> list[Table]:
    """Return the tables that are no views, a table after those that it refers to."""
    return [table for table in METADATA.sorted_tables if "view" not in table.info]

"""What the server stores: tables, their columns, and which table is related to which.

The GraphQL schema and the compiler of its arguments are generated from here, so a column or a relationship that is
added here can be selected, filtered and sorted by at once. Times are microseconds since the epoch (times.py).
Column(info={"hidden": True}) keeps a column out of GraphQL, and Table(info={"hidden": True}) a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
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

#: Stored in the database file; raised when a released shape changes (migrations.py).
SCHEMA_VERSION = 2


class UuidText(String):
    """A UUID in its usual text form."""


class TimeUs(BigInteger):
    """A point in time, in microseconds since the epoch."""


class DurationUs(BigInteger):
    """A span of time in microseconds."""


class Json(JSON):
    """A JSON value; None is SQL's NULL."""

    def __init__(self) -> None:
        super().__init__(none_as_null=True)


METADATA = MetaData()


def _table(name: str, *columns: Any, hidden: bool = False) -> Table:
    # The order of insertion is the order of rows that no order_by decides; a UUID would give none.
    return Table(
        name,
        METADATA,
        Column("seq", Integer, primary_key=True, info={"hidden": True}),
        Column("id", UuidText, nullable=False, unique=True),
        *columns,
        sqlite_autoincrement=True,
        info={"hidden": hidden},
    )


def _reference(name: str, target: str, nullable: bool = False) -> Column[str]:
    return Column(name, UuidText, ForeignKey(f"{target}.id", ondelete="CASCADE"), nullable=nullable)


def _time(name: str, nullable: bool = True) -> Column[int]:
    return Column(name, TimeUs, nullable=nullable)


TENANT = _table(
    "tenant",
    Column("slug", String, nullable=False, unique=True),
    Column("name", String, nullable=False),
    _time("created", nullable=False),
)
PROJECT = _table(
    "project",
    _reference("tenant_id", "tenant"),
    Column("name", String, nullable=False),
    Column("description", String),
    _time("created", nullable=False),
    UniqueConstraint("tenant_id", "name"),
)
FLOW_GROUP = _table(
    "flow_group",
    _reference("tenant_id", "tenant"),
    Column("name", String, nullable=False, unique=True),
    Column("description", String),
    Column("labels", Json),
    Column("run_config", Json),
    Column("schedule", Json),
    Column("default_parameters", Json, nullable=False),
    Column("settings", Json, nullable=False),
    _time("created", nullable=False),
)
FLOW = _table(
    "flow",
    _reference("tenant_id", "tenant"),
    _reference("project_id", "project"),
    _reference("flow_group_id", "flow_group"),
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
    _time("created", nullable=False),
    _time("updated", nullable=False),
    UniqueConstraint("version_group_id", "version"),
    Index("flow_by_name", "name"),
    Index("flow_by_project", "project_id"),
    Index("flow_by_group", "flow_group_id"),
    Index("flow_with_active_schedule", "is_schedule_active", sqlite_where=text("is_schedule_active")),
)
TASK = _table(
    "task",
    _reference("flow_id", "flow"),
    Column("slug", String, nullable=False),
    Column("name", String),
    Column("description", String),
    Column("type", String),
    Column("mapped", Boolean, nullable=False),
    Column("max_retries", Integer),
    Column("retry_delay", DurationUs),
    Column("cache_key", String),
    Column("tags", Json, nullable=False),
    _time("created", nullable=False),
    UniqueConstraint("flow_id", "slug"),
)
EDGE = _table(
    "edge",
    _reference("flow_id", "flow"),
    _reference("upstream_task_id", "task"),
    _reference("downstream_task_id", "task"),
    Column("key", String),
    Column("mapped", Boolean, nullable=False),
    Index("edge_by_flow", "flow_id"),
    Index("edge_by_upstream_task", "upstream_task_id"),
    Index("edge_by_downstream_task", "downstream_task_id"),
)
FLOW_RUN = _table(
    "flow_run",
    _reference("tenant_id", "tenant"),
    _reference("flow_id", "flow"),
    Column("name", String, nullable=False),
    Column("parameters", Json, nullable=False),
    Column("context", Json),
    Column("labels", Json, nullable=False),
    Column("run_config", Json),
    Column("idempotency_key", String),
    Column("auto_scheduled", Boolean, nullable=False),
    _time("scheduled_start_time", nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("serialized_state", Json, nullable=False),
    Column("state_message", String),
    _time("state_timestamp", nullable=False),
    _time("state_start_time"),
    _time("start_time"),
    _time("end_time"),
    Column("duration", DurationUs, Computed("end_time - start_time", persisted=False)),
    _time("heartbeat"),
    Column("times_resurrected", Integer, nullable=False),
    Column("agent_id", UuidText),
    # Who last claimed or reported it; what makes a repeated claim recognisable.
    Column("claim", String, info={"hidden": True}),
    _time("created", nullable=False),
    _time("updated", nullable=False),
    UniqueConstraint("flow_id", "idempotency_key"),
    Index("flow_run_by_state", "state", "state_start_time"),
    Index("flow_run_by_flow", "flow_id", "scheduled_start_time"),
    Index("flow_run_by_agent", "agent_id"),
    Index("flow_run_by_creation", "created"),
    Index("flow_run_by_start", "start_time"),
    Index("flow_run_by_end", "end_time"),
)
FLOW_RUN_STATE = _table(
    "flow_run_state",
    _reference("flow_run_id", "flow_run"),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    _time("timestamp", nullable=False),
    _time("start_time"),
    Column("message", String),
    Column("serialized_state", Json, nullable=False),
    _time("created", nullable=False),
    UniqueConstraint("flow_run_id", "version"),
)
TASK_RUN = _table(
    "task_run",
    _reference("flow_run_id", "flow_run"),
    _reference("task_id", "task"),
    Column("name", String),
    Column("map_index", Integer, nullable=False),
    Column("cache_key", String),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    Column("serialized_state", Json, nullable=False),
    Column("state_message", String),
    _time("state_timestamp", nullable=False),
    _time("state_start_time"),
    _time("start_time"),
    _time("end_time"),
    _time("heartbeat"),
    # Who last took it, where it waited to be taken: what makes a repeated claim recognisable.
    Column("claim", String, info={"hidden": True}),
    _time("created", nullable=False),
    _time("updated", nullable=False),
    UniqueConstraint("flow_run_id", "task_id", "map_index"),
    Index("task_run_by_task", "task_id"),
    Index("task_run_by_state", "state", "state_timestamp"),
)
TASK_RUN_STATE = _table(
    "task_run_state",
    _reference("task_run_id", "task_run"),
    Column("version", Integer, nullable=False),
    Column("state", String, nullable=False),
    _time("timestamp", nullable=False),
    _time("start_time"),
    Column("message", String),
    Column("serialized_state", Json, nullable=False),
    _time("created", nullable=False),
    UniqueConstraint("task_run_id", "version"),
)
# A million rows are usual, so a log row has one number as its name and no UUID.
LOG = Table(
    "log",
    METADATA,
    Column("id", Integer, primary_key=True),
    _reference("flow_run_id", "flow_run"),
    _reference("task_run_id", "task_run", nullable=True),
    Column("timestamp", TimeUs, nullable=False),
    Column("name", String),
    Column("level", String, nullable=False),
    Column("message", String, nullable=False),
    Column("info", Json),
    Column("line_id", String),
    Index("log_by_flow_run", "flow_run_id", "timestamp"),
    # Every index ends with the row's own number, so this one serves whoever follows a run's lines as they arrive.
    Index("log_by_arrival", "flow_run_id"),
    Index("log_line_once", "flow_run_id", "line_id", unique=True, sqlite_where=text("line_id IS NOT NULL")),
    Index("log_by_task_run", "task_run_id", "timestamp", sqlite_where=text("task_run_id IS NOT NULL")),
)
AGENT = _table(
    "agent",
    _reference("tenant_id", "tenant"),
    Column("name", String),
    Column("type", String, nullable=False),
    Column("labels", Json, nullable=False),
    Column("core_version", String),
    Column("agent_config_id", UuidText),
    _time("last_queried"),
    _time("created", nullable=False),
)
AGENT_CONFIG = _table(
    "agent_config",
    _reference("tenant_id", "tenant"),
    Column("name", String),
    Column("settings", Json, nullable=False),
    _time("created", nullable=False),
    _time("updated", nullable=False),
)
TASK_RUN_ARTIFACT = _table(
    "task_run_artifact",
    _reference("tenant_id", "tenant"),
    _reference("task_run_id", "task_run"),
    Column("kind", String, nullable=False),
    Column("data", Json, nullable=False),
    _time("created", nullable=False),
    _time("updated", nullable=False),
    Index("task_run_artifact_by_task_run", "task_run_id"),
)
KEY_VALUE = _table(
    "key_value",
    _reference("tenant_id", "tenant"),
    Column("key", String, nullable=False),
    Column("value", Json),
    _time("created", nullable=False),
    _time("updated", nullable=False),
    UniqueConstraint("tenant_id", "key"),
)
TASK_TAG_LIMIT = _table(
    "task_tag_limit",
    _reference("tenant_id", "tenant"),
    Column("tag", String, nullable=False),
    Column("limit", Integer, nullable=False),
    _time("created", nullable=False),
    _time("updated", nullable=False),
    UniqueConstraint("tenant_id", "tag"),
)
# Hidden: a secret is asked for by its name, one at a time, and no filter can feel its way along a value.
SECRET = _table(
    "secret",
    _reference("tenant_id", "tenant"),
    Column("name", String, nullable=False),
    Column("value", Json),
    _time("created", nullable=False),
    _time("updated", nullable=False),
    UniqueConstraint("tenant_id", "name"),
    hidden=True,
)


@dataclass(frozen=True)
class Relationship:
    """Rows of `target` whose `target_column` equals a row's `source_column`: one of them, or any number."""

    name: str
    target: Table
    source_column: str
    target_column: str
    many: bool


RELATIONSHIPS: dict[str, dict[str, Relationship]] = {name: {} for name in METADATA.tables}


def _relate(child: Table, column: str, parent_name: str, parent: Table, children_name: str) -> None:
    """`child.column` names a row of `parent`; both sides get a field for the other."""
    to_parent = Relationship(parent_name, parent, column, "id", many=False)
    to_children = Relationship(children_name, child, "id", column, many=True)
    RELATIONSHIPS[child.name][parent_name] = to_parent
    RELATIONSHIPS[parent.name][children_name] = to_children


_relate(PROJECT, "tenant_id", "tenant", TENANT, "projects")
_relate(FLOW, "project_id", "project", PROJECT, "flows")
_relate(FLOW, "flow_group_id", "flow_group", FLOW_GROUP, "flows")
_relate(TASK, "flow_id", "flow", FLOW, "tasks")
_relate(EDGE, "flow_id", "flow", FLOW, "edges")
_relate(EDGE, "upstream_task_id", "upstream_task", TASK, "downstream_edges")
_relate(EDGE, "downstream_task_id", "downstream_task", TASK, "upstream_edges")
_relate(FLOW_RUN, "flow_id", "flow", FLOW, "flow_runs")
_relate(FLOW_RUN, "agent_id", "agent", AGENT, "flow_runs")
_relate(FLOW_RUN_STATE, "flow_run_id", "flow_run", FLOW_RUN, "states")
_relate(TASK_RUN, "flow_run_id", "flow_run", FLOW_RUN, "task_runs")
_relate(TASK_RUN, "task_id", "task", TASK, "task_runs")
_relate(TASK_RUN_STATE, "task_run_id", "task_run", TASK_RUN, "states")
_relate(LOG, "flow_run_id", "flow_run", FLOW_RUN, "logs")
_relate(LOG, "task_run_id", "task_run", TASK_RUN, "logs")
_relate(AGENT, "agent_config_id", "agent_config", AGENT_CONFIG, "agents")
_relate(TASK_RUN_ARTIFACT, "task_run_id", "task_run", TASK_RUN, "artifacts")


def insertion_order(table: Table) -> str:
    """The column that grows with every row that is added to `table`."""
    return "seq" if "seq" in table.c else "id"


def visible_tables() -> list[Table]:
    """The tables that GraphQL shows."""
    return [table for table in METADATA.tables.values() if not table.info.get("hidden")]


def visible_columns(table: Table) -> list[Column[Any]]:
    """The columns of `table` that GraphQL shows."""
    return [column for column in table.c if not column.info.get("hidden")]

"""Which tables are related, and by which columns: the nested fields of the GraphQL schema."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Table

from flowherd_server.store.notification_tables import NOTIFICATION
from flowherd_server.store.tables import (
    AGENT,
    AGENT_CONFIG,
    EDGE,
    FLOW,
    FLOW_GROUP,
    FLOW_RUN,
    FLOW_RUN_ATTEMPT,
    METADATA,
    PROJECT,
    TASK,
    TASK_RUN,
    TASK_RUN_ARTIFACT,
    TASK_RUN_STATE,
    TENANT,
    TEXT_SO_FAR,
)
from flowherd_server.store.views import FLOW_RUN_STATE, LOG


@dataclass(frozen=True)
class Relationship:
    """The rows of `target` whose `target_column` equals `source_column` of a row: at most one, or `many`."""

    name: str
    target: Table
    source_column: str
    target_column: str
    many: bool


#: {table name: {field name: relationship}}.
RELATIONSHIPS: dict[str, dict[str, Relationship]] = {name: {} for name in METADATA.tables}


def _relate(child: Table, column: str, parent_name: str, parent: Table, children_name: str) -> None:
    """Give `child`, whose `column` holds the id of a row of `parent`, and `parent` a field for each other."""
    RELATIONSHIPS[child.name][parent_name] = Relationship(parent_name, parent, column, "id", many=False)
    RELATIONSHIPS[parent.name][children_name] = Relationship(children_name, child, "id", column, many=True)


_relate(PROJECT, "tenant_id", "tenant", TENANT, "projects")
_relate(FLOW, "project_id", "project", PROJECT, "flows")
_relate(FLOW, "flow_group_id", "flow_group", FLOW_GROUP, "flows")
_relate(TASK, "flow_id", "flow", FLOW, "tasks")
_relate(EDGE, "flow_id", "flow", FLOW, "edges")
_relate(EDGE, "upstream_task_id", "upstream_task", TASK, "downstream_edges")
_relate(EDGE, "downstream_task_id", "downstream_task", TASK, "upstream_edges")
_relate(FLOW_RUN, "flow_id", "flow", FLOW, "flow_runs")
_relate(FLOW_RUN, "agent_id", "agent", AGENT, "flow_runs")
_relate(FLOW_RUN_ATTEMPT, "flow_run_id", "flow_run", FLOW_RUN, "attempts")
_relate(FLOW_RUN_STATE, "flow_run_id", "flow_run", FLOW_RUN, "states")
_relate(TASK_RUN, "flow_run_id", "flow_run", FLOW_RUN, "task_runs")
_relate(TASK_RUN, "task_id", "task", TASK, "task_runs")
_relate(TASK_RUN_STATE, "task_run_id", "task_run", TASK_RUN, "states")
_relate(LOG, "flow_run_id", "flow_run", FLOW_RUN, "logs")
_relate(TEXT_SO_FAR, "flow_run_id", "flow_run", FLOW_RUN, "texts_so_far")
_relate(NOTIFICATION, "flow_run_id", "flow_run", FLOW_RUN, "notifications")
_relate(LOG, "task_run_id", "task_run", TASK_RUN, "logs")
_relate(AGENT, "agent_config_id", "agent_config", AGENT_CONFIG, "agents")
_relate(TASK_RUN_ARTIFACT, "task_run_id", "task_run", TASK_RUN, "artifacts")

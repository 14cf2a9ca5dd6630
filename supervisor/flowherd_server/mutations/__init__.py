"""Everything that changes something on request, one family of the dialect's mutations a module."""

from __future__ import annotations

from flowherd_server.graphql.operations import Operation
from flowherd_server.mutations import (
    agent_configs,
    agents,
    artifacts,
    cancel,
    flow_groups,
    flow_parts,
    flow_runs,
    flows,
    key_values,
    logs,
    projects,
    queue,
    schedules,
    secrets,
    states,
    tag_limits,
    task_runs,
    task_states,
    tenants,
)

OPERATIONS: tuple[Operation, ...] = (
    *tenants.OPERATIONS,
    *projects.OPERATIONS,
    *flows.OPERATIONS,
    *flow_parts.OPERATIONS,
    *flow_groups.OPERATIONS,
    *schedules.OPERATIONS,
    *flow_runs.OPERATIONS,
    *queue.OPERATIONS,
    *states.OPERATIONS,
    *task_runs.OPERATIONS,
    *task_states.OPERATIONS,
    *cancel.OPERATIONS,
    *logs.OPERATIONS,
    *agents.OPERATIONS,
    *agent_configs.OPERATIONS,
    *artifacts.OPERATIONS,
    *key_values.OPERATIONS,
    *secrets.OPERATIONS,
    *tag_limits.OPERATIONS,
)

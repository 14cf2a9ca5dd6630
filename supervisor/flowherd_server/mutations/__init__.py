"""The dialect's mutations, one family a module; each module lists its own in OPERATIONS.

Other modules here serve several families: flow_document and flow_graph read and store flows that are registered,
state_reports and idempotency read reported states and recognise repeated ones.
"""

from __future__ import annotations

from flowherd_server.graphql.operations import Operation
from flowherd_server.mutations import (
    agent_configs,
    agent_reports,
    agents,
    apply_flows,
    artifacts,
    cancel,
    claim_runs,
    flow_graph_batches,
    flow_groups,
    flow_runs,
    flows,
    key_values,
    notifications,
    projects,
    queue,
    retry,
    schedule_switches,
    secrets,
    set_flow_run_states,
    set_task_run_states,
    several_runs,
    tag_limits,
    task_runs,
    tenants,
    write_run_logs,
)

OPERATIONS: tuple[Operation, ...] = (
    *tenants.OPERATIONS,
    *projects.OPERATIONS,
    *flows.OPERATIONS,
    *flow_graph_batches.OPERATIONS,
    *flow_groups.OPERATIONS,
    *apply_flows.OPERATIONS,
    *schedule_switches.OPERATIONS,
    *flow_runs.OPERATIONS,
    *queue.OPERATIONS,
    *set_flow_run_states.OPERATIONS,
    *task_runs.OPERATIONS,
    *set_task_run_states.OPERATIONS,
    *claim_runs.OPERATIONS,
    *cancel.OPERATIONS,
    *several_runs.OPERATIONS,
    *retry.OPERATIONS,
    *write_run_logs.OPERATIONS,
    *agents.OPERATIONS,
    *agent_reports.OPERATIONS,
    *agent_configs.OPERATIONS,
    *artifacts.OPERATIONS,
    *key_values.OPERATIONS,
    *notifications.OPERATIONS,
    *secrets.OPERATIONS,
    *tag_limits.OPERATIONS,
)

"""All operations of the lane. To add one: write a module ops_NAME.py with OPERATIONS, and name it here."""

from __future__ import annotations

from flowherd_server.lane import ops_agent, ops_claim, ops_follow, ops_heartbeat, ops_report, ops_states, ops_wait
from flowherd_server.lane.requests import LaneOperation

OPERATIONS: dict[str, LaneOperation] = {
    operation.name: operation
    for operation in (
        *ops_agent.OPERATIONS,
        *ops_claim.OPERATIONS,
        *ops_follow.OPERATIONS,
        *ops_heartbeat.OPERATIONS,
        *ops_report.OPERATIONS,
        *ops_states.OPERATIONS,
        *ops_wait.OPERATIONS,
    )
}

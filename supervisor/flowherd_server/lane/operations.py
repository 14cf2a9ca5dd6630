"""All operations of the lane. To add one: write a module ops_NAME.py with OPERATIONS, and name it here."""

from __future__ import annotations

from flowherd_server.lane import ops_heartbeat, ops_states
from flowherd_server.lane.requests import LaneOperation

OPERATIONS: dict[str, LaneOperation] = {
    operation.name: operation
    for operation in (
        *ops_heartbeat.OPERATIONS,
        *ops_states.OPERATIONS,
    )
}

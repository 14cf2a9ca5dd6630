"""Everything that changes something on request, one family of the dialect's mutations a module."""

from __future__ import annotations

from flowherd.server.mutations import agents, cancel, flow_runs, flows, logs, projects, queue, schedules, states
from flowherd.server.operations import Operation

OPERATIONS: tuple[Operation, ...] = (
    *projects.OPERATIONS,
    *flows.OPERATIONS,
    *schedules.OPERATIONS,
    *flow_runs.OPERATIONS,
    *queue.OPERATIONS,
    *states.OPERATIONS,
    *cancel.OPERATIONS,
    *logs.OPERATIONS,
    *agents.OPERATIONS,
)

"""Creating task runs: with a flow run one for each task, and later one for each child of a mapped task."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

from flowherd.states import RunState
from flowherd_server.call import Call
from flowherd_server.runs.new_state import plain_state
from flowherd_server.runs.state_history import TASK_RUNS, history_row, latest_state
from flowherd_server.store.plain import insert_rows
from flowherd_server.store.tables import TASK_RUN, TASK_RUN_STATE

#: The map index of a task run that is not a child of a mapped task.
UNMAPPED = -1


def create_task_runs(
    call: Call, flow_run_id: str, tasks: Iterable[tuple[str, str | None]], map_index: int = UNMAPPED
) -> list[str]:
    """Create a Pending task run for each of `tasks`, pairs of task id and cache key. Returns the task runs' ids."""
    pending = plain_state(RunState.PENDING, "Task run created", call.now)
    rows, states = [], []
    for task_id, cache_key in tasks:
        row = {
            "id": str(uuid4()),
            "flow_run_id": flow_run_id,
            "task_id": task_id,
            "map_index": map_index,
            "cache_key": cache_key,
            "created": call.now,
            **latest_state(call, 0, pending),
        }
        rows.append(row)
        states.append(history_row(call, TASK_RUNS, row, 0, pending))
    if rows:
        insert_rows(call.connection, TASK_RUN, rows)
        insert_rows(call.connection, TASK_RUN_STATE, states)
    return [row["id"] for row in rows]

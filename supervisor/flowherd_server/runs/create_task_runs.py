"""Creating task runs: with a flow run, one for each task; later one for each child of a mapped task."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import uuid4

from sqlalchemy import insert

from flowherd.states import RunState
from flowherd_server.graphql.operations import Call
from flowherd_server.runs.new_states import plain_state, state_columns, state_row
from flowherd_server.store.tables import TASK_RUN, TASK_RUN_STATE

#: Of a task run that is no child of a mapped one.
UNMAPPED = -1


def create_task_runs(
    call: Call, flow_run_id: str, tasks: Iterable[tuple[str, str | None]], map_index: int = UNMAPPED
) -> list[str]:
    """A Pending task run for each of `tasks`, which are pairs of id and cache key; their ids."""
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
            **state_columns(call, 0, pending),
        }
        rows.append(row)
        states.append(state_row(call, "task_run_id", row["id"], 0, pending))
    if rows:
        call.connection.execute(insert(TASK_RUN), rows)
        call.connection.execute(insert(TASK_RUN_STATE), states)
    return [row["id"] for row in rows]

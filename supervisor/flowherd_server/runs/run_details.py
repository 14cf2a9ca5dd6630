"""What an agent needs to start flow runs: rows as its details query in GraphQL has them, read in two statements."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from flowherd.states import CLAIMABLE
from flowherd_server.runs.task_run_states import HANDED_OUT_AFTER_US
from flowherd_server.store.microseconds import format_time
from flowherd_server.store.tables import FLOW, FLOW_RUN, TASK_RUN

_RUN = (
    *("id", "name", "version", "state", "serialized_state", "parameters", "run_config", "labels"),
    "scheduled_start_time",
)
_FLOW = ("id", "name", "version", "environment", "storage", "run_config", "core_version", "parameters")
_TASK_RUN = ("id", "version", "task_id", "serialized_state")
_WANTED = select(func.json_each(bindparam("ids")).table_valued("value").c.value)
_RUNS = (
    select(*(FLOW_RUN.c[name] for name in _RUN), *(FLOW.c[name].label(f"flow_{name}") for name in _FLOW))
    .join(FLOW, FLOW.c.id == FLOW_RUN.c.flow_id)
    .where(FLOW_RUN.c.id.in_(_WANTED))
)
_TASK_RUNS = select(TASK_RUN.c.flow_run_id, *(TASK_RUN.c[name] for name in _TASK_RUN)).where(
    TASK_RUN.c.flow_run_id.in_(_WANTED),
    TASK_RUN.c.state.in_(sorted(CLAIMABLE)),
    TASK_RUN.c.state_start_time <= bindparam("before"),
)


def run_details(connection: Connection, now: int, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of these flow runs in this order, each with its flow and with its task runs that wait.

    `now` is the present, microseconds since the epoch.
    """
    if not run_ids:
        return []
    ids = json.dumps(run_ids)
    task_runs = defaultdict(list)
    before = now - HANDED_OUT_AFTER_US
    for row in connection.execute(_TASK_RUNS, {"ids": ids, "before": before}).mappings():
        task_runs[row["flow_run_id"]].append({name: row[name] for name in _TASK_RUN})
    found = {}
    for row in connection.execute(_RUNS, {"ids": ids}).mappings():
        found[row["id"]] = {
            **{name: row[name] for name in _RUN},
            "scheduled_start_time": format_time(row["scheduled_start_time"]),
            "flow": {name: row[f"flow_{name}"] for name in _FLOW},
            "task_runs": task_runs[row["id"]],
        }
    return [found[run_id] for run_id in run_ids if run_id in found]

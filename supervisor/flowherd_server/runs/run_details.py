"""What an agent needs to start flow runs: rows as its details query in GraphQL has them, read in two statements."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Table

from flowherd_server.runs.task_run_states import HANDED_OUT_AFTER_US
from flowherd_server.store.indexes import WAITS
from flowherd_server.store.microseconds import format_time
from flowherd_server.store.plain import json_names, plain
from flowherd_server.store.tables import FLOW, FLOW_RUN, TASK_RUN

_RUN = (
    *("id", "name", "version", "state", "serialized_state", "parameters", "run_config", "labels"),
    "scheduled_start_time",
)
_FLOW = ("id", "name", "version", "environment", "storage", "run_config", "core_version", "parameters")
_TASK_RUN = ("id", "version", "task_id", "serialized_state")
_WANTED = "(SELECT value FROM json_each(?))"
_COLUMNS = ", ".join([*(f"flow_run.{name}" for name in _RUN), *(f"flow.{name}" for name in _FLOW)])
_RUNS = f"SELECT {_COLUMNS} FROM flow_run JOIN flow ON flow.id = flow_run.flow_id WHERE flow_run.id IN {_WANTED}"
_TASK_RUNS = (
    f"SELECT flow_run_id, {', '.join(_TASK_RUN)} FROM task_run "
    f"WHERE flow_run_id IN {_WANTED} AND {WAITS} AND state_start_time <= ?"
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
    for run_id, *values in plain(connection).execute(_TASK_RUNS, (ids, before)):
        task_runs[run_id].append(_read(TASK_RUN, _TASK_RUN, values))
    found = {}
    for values in plain(connection).execute(_RUNS, (ids,)):
        run, flow = _read(FLOW_RUN, _RUN, values[: len(_RUN)]), _read(FLOW, _FLOW, values[len(_RUN) :])
        at = format_time(run["scheduled_start_time"])
        found[run["id"]] = {**run, "scheduled_start_time": at, "flow": flow, "task_runs": task_runs[run["id"]]}
    return [found[run_id] for run_id in run_ids if run_id in found]


def _read(table: Table, names: tuple[str, ...], values: Sequence[Any]) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(names, values, strict=True))
    for name in json_names(table, names):
        if row[name] is not None:
            row[name] = json.loads(row[name])
    return row

"""Recording states of flow runs and task runs: a row in the history, and the columns that repeat the latest state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Table

from flowherd.states import FINISHED, RunState
from flowherd_server.call import Call
from flowherd_server.runs.new_state import NewState
from flowherd_server.store.plain import StoredRow, insert_row, update_row
from flowherd_server.store.tables import FLOW_RUN, RUN_STATE, TASK_RUN, TASK_RUN_STATE


@dataclass(frozen=True)
class RunTables:
    """A table of runs and the table of their states."""

    runs: Table
    history: Table
    #: What the dialect calls the run's id.
    key: str
    #: Column of the history that refers to the run, and the run's column whose value it has.
    link: tuple[str, str]


FLOW_RUNS = RunTables(FLOW_RUN, RUN_STATE, "flow_run_id", ("run", "seq"))
TASK_RUNS = RunTables(TASK_RUN, TASK_RUN_STATE, "task_run_id", ("task_run_id", "id"))


def record_state(call: Call, tables: RunTables, run: StoredRow, state: NewState, changed: Mapping[str, Any]) -> None:
    """Make `state` the latest state of `run`, and set the columns `changed` with it."""
    version = run["version"] + 1
    insert_row(call.connection, tables.history, history_row(call, tables, run, version, state))
    columns = {**latest_state(call, version, state), **_start_and_end(run, state), **changed}
    update_row(call.connection, tables.runs, run["id"], columns)


def history_row(call: Call, tables: RunTables, run: StoredRow, version: int, state: NewState) -> dict[str, Any]:
    """Return the row for the history of states."""
    column, of_run = tables.link
    return {
        **({"id": str(uuid4())} if "id" in tables.history.c else {}),
        column: run[of_run],
        "version": version,
        "state": state.type.value,
        "timestamp": state.at_us,
        "start_time": state.start_us,
        "message": state.message,
        "serialized_state": state.serialized,
        "created": call.now,
    }


def latest_state(call: Call, version: int, state: NewState) -> dict[str, Any]:
    """Return the columns of a run that repeat its latest state."""
    return {
        "version": version,
        "state": state.type.value,
        "serialized_state": state.serialized,
        "state_message": state.message,
        "state_timestamp": state.at_us,
        "state_start_time": state.start_us,
        "updated": call.now,
    }


def _start_and_end(run: StoredRow, state: NewState) -> dict[str, Any]:
    """Return start and end time: the first Running is the start, and only a finished run has an end."""
    times: dict[str, Any] = {"end_time": state.at_us if state.type in FINISHED else None}
    if state.type is RunState.RUNNING:
        times["start_time"] = min(state.at_us, run["start_time"] or state.at_us)
    if state.type in FINISHED and run["start_time"] is not None:
        # The clocks of two hosts may disagree; a run must not end before it started.
        times["end_time"] = max(state.at_us, run["start_time"])
    return times

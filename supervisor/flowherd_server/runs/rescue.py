"""Rescuing runs whose heartbeat has stopped: the dialect's zombie killer and its Lazarus.

A zombie is a Running task run of a flow run without a heartbeat, which is retried or failed, or a Cancelling flow run
without a heartbeat, which is failed. Lazarus puts Submitted and Running flow runs without a heartbeat, of which no task
run runs or waits, back into the queue. State and log messages are those of the real server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from loguru import logger
from sqlalchemy import Row, Select, func, select, update

from flowherd.states import Event, RunState, after
from flowherd_server.call import Call, Caller, Effects
from flowherd_server.rules.attempts import after_end, end_found_by_server
from flowherd_server.runs.flow_run_states import enter_flow_run_state
from flowherd_server.runs.new_state import plain_state
from flowherd_server.runs.stale_heartbeats import (
    StaleHeartbeats,
    dead_flow_runs,
    forgotten_flow_runs,
    zombie_flow_runs,
    zombie_task_runs,
)
from flowherd_server.runs.task_run_states import enter_task_run_state
from flowherd_server.store.database import Database
from flowherd_server.store.log_lines import NewLine, store_lines
from flowherd_server.store.microseconds import format_time, now_us
from flowherd_server.store.plain import StoredRow
from flowherd_server.store.row_lookup import row_by_id
from flowherd_server.store.tables import FLOW_RUN, TASK, TASK_RUN, TASK_RUN_STATE

#: Maximum number of runs to rescue in one pass; the rest waits for the next pass.
_RUNS_PER_PASS = 5_000
_NO_TASK_HEARTBEAT = "No heartbeat detected from the remote task; "
_NO_FLOW_HEARTBEAT = "No heartbeat detected from the flow run; marking the run as failed."
_FORGOTTEN = "No agent has named this run since the database was restored from an older copy; its end is not known."
_TRIED_TOO_OFTEN = "A Lazarus process attempted to reschedule this run"
#: Beginnings of the messages of runs that the server has found to be lost.
FOUND_LOST = (_NO_FLOW_HEARTBEAT, _FORGOTTEN, _TRIED_TOO_OFTEN)
_RESCHEDULED = "Rescheduled by a Lazarus process."


class Rescue:
    """Rescues dead runs, each in a transaction of its own that checks again whether the run is still dead.

    So a report that arrives meanwhile from the run's process or agent either comes first or finds the rescued state.
    """

    def __init__(self, database: Database, schedule_ahead: int, stopping: Callable[[], bool]) -> None:
        self._database = database
        self._schedule_ahead = schedule_ahead
        self._stopping = stopping

    def end_zombies(self, stale: StaleHeartbeats) -> Effects:
        """Retry or fail zombie task runs and fail zombie flow runs. Returns whom to wake."""
        effects = Effects()
        tasks = sum(self._end_task_run(row.id, stale, effects) for row in self._found(zombie_task_runs(stale)))
        runs = sum(self._end_flow_run(row.id, stale, effects) for row in self._found(zombie_flow_runs(stale)))
        if tasks or runs:
            logger.warning("ended {} task runs and {} cancelled flow runs that had no heartbeat", tasks, runs)
        return effects

    def resurrect(self, stale: StaleHeartbeats, attempts: int) -> Effects:
        """Put dead flow runs back into the queue, or fail them after `attempts` times. Returns whom to wake."""
        effects = Effects()
        dead = self._found(dead_flow_runs(stale))
        count = sum(self._resurrect_one(row.id, stale, attempts, effects) for row in dead)
        if count:
            logger.warning("Lazarus rescheduled or failed {} flow runs that had no heartbeat", count)
        return effects

    def end_forgotten(self, stale: StaleHeartbeats, restored_us: int) -> Effects:
        """Fail the runs that no agent has named since the database was restored. Returns whom to wake."""
        effects, query = Effects(), forgotten_flow_runs(stale, restored_us)
        count = 0
        for row in self._found(query):
            with self._if_still(query.where(FLOW_RUN.c.id == row.id), effects) as call:
                if call is not None:
                    _change_flow_run(call, row.id, Event.FAIL, _FORGOTTEN)
                    _log(call, "Restored.FlowRun", "ERROR", _FORGOTTEN, row.id)
                    count += 1
        if count:
            logger.warning("failed {} flow runs that no agent has named since the database was restored", count)
        return effects

    def _found(self, query: Select[tuple[str]]) -> Iterator[Row[tuple[str]]]:
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(_RUNS_PER_PASS)).all()
        for row in rows:
            if self._stopping():
                return
            yield row

    @contextmanager
    def _if_still(self, query: Select[tuple[str]], effects: Effects) -> Iterator[Call | None]:
        """Open a transaction; yields None if `query` does not find the run any more."""
        with self._database.writing() as connection:
            call = Call(connection, Caller(), now_us(), self._schedule_ahead)
            yield call if connection.execute(query).first() is not None else None
        effects.add(call.effects)

    def _end_task_run(self, task_run_id: str, stale: StaleHeartbeats, effects: Effects) -> bool:
        query = zombie_task_runs(stale).where(TASK_RUN.c.id == task_run_id)
        with self._if_still(query, effects) as call:
            if call is not None:
                _end_task_run(call, task_run_id)
            return call is not None

    def _end_flow_run(self, flow_run_id: str, stale: StaleHeartbeats, effects: Effects) -> bool:
        query = zombie_flow_runs(stale).where(FLOW_RUN.c.id == flow_run_id)
        with self._if_still(query, effects) as call:
            if call is not None:
                _change_flow_run(call, flow_run_id, Event.FAIL, _NO_FLOW_HEARTBEAT)
                _log(call, "ZombieKiller.FlowRun", "ERROR", _NO_FLOW_HEARTBEAT, flow_run_id)
            return call is not None

    def _resurrect_one(self, flow_run_id: str, stale: StaleHeartbeats, attempts: int, effects: Effects) -> bool:
        query = dead_flow_runs(stale).where(FLOW_RUN.c.id == flow_run_id)
        with self._if_still(query, effects) as call:
            if call is not None:
                _resurrect(call, flow_run_id, attempts)
            return call is not None


def _end_task_run(call: Call, task_run_id: str) -> None:
    task_run = row_by_id(call.connection, TASK_RUN, task_run_id)
    flow_run = row_by_id(call.connection, FLOW_RUN, task_run["flow_run_id"])
    task = row_by_id(call.connection, TASK, task_run["task_id"])
    tries, most = _retries(call, task_run_id), task["max_retries"] or 0
    if flow_run["state"] == RunState.RUNNING and tries < most:
        start_us = call.now + (task["retry_delay"] or 0)
        message = f"{_NO_TASK_HEARTBEAT}retrying the run. This will be retry {tries + 1} of {most}."
        more = {"run_count": tries + 1, "start_time": format_time(start_us)}
        state = plain_state(RunState.RETRYING, message, call.now, start_us, **more, **_inputs(task_run))
    else:
        message = f"{_NO_TASK_HEARTBEAT}marking the task run {task_run_id} ({task_run['name']}) as failed."
        state = plain_state(RunState.FAILED, message, call.now, **_inputs(task_run))
    enter_task_run_state(call, task_run, state)
    _log(call, "ZombieKiller.TaskRun", "ERROR", message, flow_run["id"], task_run_id)


def _retries(call: Call, task_run_id: str) -> int:
    states = select(func.count()).where(
        TASK_RUN_STATE.c.task_run_id == task_run_id, TASK_RUN_STATE.c.state == RunState.RETRYING.value
    )
    return call.connection.execute(states).scalar_one()


def _inputs(task_run: StoredRow) -> dict[str, Any]:
    # The next try must find the inputs that the last one was given.
    return {"cached_inputs": task_run["serialized_state"].get("cached_inputs") or {}}


def _resurrect(call: Call, flow_run_id: str, attempts: int) -> None:
    attempt = row_by_id(call.connection, FLOW_RUN, flow_run_id)["times_resurrected"] + 1
    if attempt > attempts:
        message = f"{_TRIED_TOO_OFTEN} {attempts} times without success. Marking as failed."
        _change_flow_run(call, flow_run_id, Event.FAIL, message)
        _log(call, "Lazarus.FlowRun", "ERROR", message, flow_run_id)
        return
    _change_flow_run(call, flow_run_id, Event.SCHEDULE, _RESCHEDULED)
    changed = update(FLOW_RUN).where(FLOW_RUN.c.id == flow_run_id)
    call.connection.execute(changed, {"times_resurrected": attempt})
    _log(call, "Lazarus.FlowRun", "INFO", f"{_RESCHEDULED} This is attempt {attempt}.", flow_run_id)


def _change_flow_run(call: Call, flow_run_id: str, event: Event, message: str) -> None:
    run = row_by_id(call.connection, FLOW_RUN, flow_run_id)
    target = after(RunState(run["state"]), event)
    if target is RunState.SCHEDULED:
        state = plain_state(target, message, call.now, call.now, start_time=format_time(call.now))
    else:
        state = plain_state(target, message, call.now)
    columns: dict[str, Any] = {}
    if event is Event.FAIL and run["attempt"] is not None:
        state, columns = after_end(call, run, end_found_by_server(state))
    enter_flow_run_state(call, run, state, **columns)


def _log(call: Call, service: str, level: str, message: str, flow_run_id: str, task_run_id: str | None = None) -> None:
    line = NewLine(flow_run_id, task_run_id, call.now, f"prefect-server.{service}", level, message)
    store_lines(call.connection, [line], call.now)

"""What is done about runs whose heartbeat has stopped: the dialect's zombie killer and its Lazarus.

A zombie is a task run that is Running, or a flow run that is Cancelling, whose flow run nobody heartbeats any more: the
task run is retried or failed, the flow run failed. Lazarus puts flow runs that are Submitted or Running, and of which
nothing runs or waits, back into the queue. Words, thresholds and what is left alone are the real server's, but for
runs that a flowherd agent has claimed: those outlive their agent, which tells of them when it is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from loguru import logger
from sqlalchemy import ColumnElement, Row, RowMapping, Select, and_, func, insert, or_, select, update

from flowherd.states import ACTIVE, Event, RunState, after
from flowherd_server.graphql.operations import Call, Caller, Effects
from flowherd_server.mutations.flow_settings import HEARTBEAT, LAZARUS
from flowherd_server.runs.new_states import BY_PREFECTS_AGENT, plain_state
from flowherd_server.runs.state_changes import enter_state, flow_run_row
from flowherd_server.runs.task_state_changes import enter_task_state, task_run_row
from flowherd_server.store.database import Database
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN, LOG, TASK, TASK_RUN, TASK_RUN_STATE
from flowherd_server.store.times import SECOND_US, format_time, now_us

#: So many are looked at in one pass; the rest waits for the next.
_AT_ONCE = 5_000
#: A flow run of which a task run is in one of these is not dead, whatever its heartbeat: somebody will go on with it.
_GOES_ON = sorted(ACTIVE | {RunState.SCHEDULED, RunState.PAUSED, RunState.RESUME, RunState.RETRYING})
_NO_TASK_HEARTBEAT = "No heartbeat detected from the remote task; "
_NO_FLOW_HEARTBEAT = "No heartbeat detected from the flow run; marking the run as failed."
_RESCHEDULED = "Rescheduled by a Lazarus process."


@dataclass(frozen=True, kw_only=True)
class RescueOptions:
    """When a run counts as dead, and how often that is looked for."""

    #: Without a heartbeat for so long.
    heartbeat_timeout_s: float = 600.0
    #: The same for a run that a flowherd agent has claimed; 0 is never, for the run may go on without its agent.
    agent_timeout_s: float = 0.0
    #: 0 is never.
    zombie_interval_s: float = 120.0
    #: 0 is never.
    lazarus_interval_s: float = 600.0
    #: So many times a flow run is put back into the queue; then it has failed.
    lazarus_attempts: int = 3

    def stale(self, before_us: int) -> Stale:
        """What is dead when heartbeats `before_us` are too old."""
        if not self.agent_timeout_s:
            return Stale(before_us=before_us)
        more_s = max(0.0, self.agent_timeout_s - self.heartbeat_timeout_s)
        return Stale(before_us=before_us, claimed_before_us=before_us - round(more_s * SECOND_US))


@dataclass(frozen=True, kw_only=True)
class Stale:
    """Which heartbeats are too old."""

    before_us: int
    #: Of runs that a flowherd agent has claimed; None: none is.
    claimed_before_us: int | None = None

    @property
    def condition(self) -> ColumnElement[bool]:
        """Of a flow run: nobody has heartbeat for it in time."""
        ours = func.coalesce(FLOW_RUN.c.claim.not_like(f"{BY_PREFECTS_AGENT}%"), False)
        of_others = and_(~ours, FLOW_RUN.c.heartbeat <= self.before_us)
        if self.claimed_before_us is None:
            return of_others
        return or_(of_others, and_(ours, FLOW_RUN.c.heartbeat <= self.claimed_before_us))


class Attention:
    """Since when this server has been there to hear heartbeats.

    While it was down, or its host asleep, nobody could heartbeat; that makes no run a dead one.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_us = round(timeout_s * SECOND_US)
        self._since_us = self._looked_us = now_us()

    def stale_before(self, interval_s: float) -> int | None:
        """Heartbeats before this moment are too old; None while that cannot be known.

        To be asked every `interval_s`.
        """
        now = now_us()
        if abs(now - self._looked_us) > interval_s * SECOND_US + self._timeout_us / 2:
            self._since_us = now
        self._looked_us = now
        return now - self._timeout_us if self._since_us <= now - self._timeout_us else None


class Rescue:
    """Rescues in one database, each in a transaction of its own that looks again whether there is still need.

    So what a run's process or agent reports meanwhile goes first, or finds the rescued state.
    """

    def __init__(self, database: Database, schedule_ahead: int, stopping: Callable[[], bool]) -> None:
        self._database = database
        self._schedule_ahead = schedule_ahead
        self._stopping = stopping

    def end_zombies(self, stale: Stale) -> Effects:
        """Retry or fail task runs, and fail cancelled flow runs, that have no heartbeat; what came of it."""
        effects = Effects()
        tasks = sum(self._end_task(row.id, stale, effects) for row in self._found(zombie_tasks(stale)))
        runs = sum(self._end_run(row.id, stale, effects) for row in self._found(zombie_runs(stale)))
        if tasks or runs:
            logger.warning("{} task runs and {} cancelled flow runs had no heartbeat any more", tasks, runs)
        return effects

    def resurrect(self, stale: Stale, attempts: int) -> Effects:
        """Put dead flow runs back into the queue, or fail them after so many `attempts`; what came of it."""
        effects = Effects()
        dead = self._found(dead_runs(stale))
        count = sum(self._resurrect_one(row.id, stale, attempts, effects) for row in dead)
        if count:
            logger.warning("{} flow runs had no heartbeat any more and were looked after by Lazarus", count)
        return effects

    def _found(self, query: Select[tuple[str]]) -> Iterator[Row[tuple[str]]]:
        with self._database.reading() as connection:
            rows = connection.execute(query.limit(_AT_ONCE)).all()
        for row in rows:
            if self._stopping():
                return
            yield row

    @contextmanager
    def _still(self, query: Select[tuple[str]], effects: Effects) -> Iterator[Call | None]:
        """A transaction in which what `query` found is still so; None where it is not."""
        with self._database.writing() as connection:
            call = Call(connection, Caller(), now_us(), self._schedule_ahead)
            yield call if connection.execute(query).first() is not None else None
        effects.due.extend(call.effects.due)
        effects.agents.update(call.effects.agents)

    def _end_task(self, task_run_id: str, stale: Stale, effects: Effects) -> bool:
        query = zombie_tasks(stale).where(TASK_RUN.c.id == task_run_id)
        with self._still(query, effects) as call:
            if call is not None:
                _end_task(call, task_run_id)
            return call is not None

    def _end_run(self, flow_run_id: str, stale: Stale, effects: Effects) -> bool:
        query = zombie_runs(stale).where(FLOW_RUN.c.id == flow_run_id)
        with self._still(query, effects) as call:
            if call is not None:
                _change_run(call, flow_run_id, Event.FAIL, _NO_FLOW_HEARTBEAT)
                _log(call, "ZombieKiller.FlowRun", "ERROR", _NO_FLOW_HEARTBEAT, flow_run_id)
            return call is not None

    def _resurrect_one(self, flow_run_id: str, stale: Stale, attempts: int, effects: Effects) -> bool:
        query = dead_runs(stale).where(FLOW_RUN.c.id == flow_run_id)
        with self._still(query, effects) as call:
            if call is not None:
                _resurrect(call, flow_run_id, attempts)
            return call is not None


def zombie_tasks(stale: Stale) -> Select[tuple[str]]:
    """Task runs that are said to run in a flow run without a heartbeat."""
    return (
        select(TASK_RUN.c.id)
        .join(FLOW_RUN, FLOW_RUN.c.id == TASK_RUN.c.flow_run_id)
        .where(
            TASK_RUN.c.state == RunState.RUNNING.value,
            stale.condition,
            ~_switched_off(HEARTBEAT),
        )
        .order_by(TASK_RUN.c.state_timestamp)
    )


def zombie_runs(stale: Stale) -> Select[tuple[str]]:
    """Flow runs that are to end and have no heartbeat: nobody will say that they have ended."""
    return (
        select(FLOW_RUN.c.id)
        .where(
            FLOW_RUN.c.state == RunState.CANCELLING.value,
            stale.condition,
            ~_switched_off(HEARTBEAT),
        )
        .order_by(FLOW_RUN.c.state_start_time, FLOW_RUN.c.seq)
    )


def dead_runs(stale: Stale) -> Select[tuple[str]]:
    """Flow runs that are said to run, or to be about to, of which nothing runs or waits."""
    goes_on = select(TASK_RUN.c.id).where(TASK_RUN.c.flow_run_id == FLOW_RUN.c.id, TASK_RUN.c.state.in_(_GOES_ON))
    return (
        select(FLOW_RUN.c.id)
        .where(
            FLOW_RUN.c.state.in_([RunState.RUNNING.value, RunState.SUBMITTED.value]),
            stale.condition,
            ~goes_on.exists(),
            ~or_(_switched_off(HEARTBEAT), _switched_off(LAZARUS)),
        )
        .order_by(FLOW_RUN.c.heartbeat, FLOW_RUN.c.seq)
    )


def _switched_off(switch: str) -> ColumnElement[bool]:
    """Whether the flow run's flow group has turned a switch off."""
    value = func.json_type(FLOW_GROUP.c.settings, f"$.{switch}")
    return (
        select(FLOW.c.id)
        .join(FLOW_GROUP, FLOW_GROUP.c.id == FLOW.c.flow_group_id)
        .where(and_(FLOW.c.id == FLOW_RUN.c.flow_id, value == "false"))
        .correlate(FLOW_RUN)
        .exists()
    )


def _end_task(call: Call, task_run_id: str) -> None:
    task_run = task_run_row(call, task_run_id)
    flow_run = flow_run_row(call, task_run["flow_run_id"])
    task = call.connection.execute(select(TASK).where(TASK.c.id == task_run["task_id"])).mappings().one()
    tries, most = _retries(call, task_run_id), task["max_retries"] or 0
    if flow_run["state"] == RunState.RUNNING and tries < most:
        start_us = call.now + (task["retry_delay"] or 0)
        message = f"{_NO_TASK_HEARTBEAT}retrying the run. This will be retry {tries + 1} of {most}."
        more = {"run_count": tries + 1, "start_time": format_time(start_us)}
        state = plain_state(RunState.RETRYING, message, call.now, start_us, **more, **_inputs(task_run))
    else:
        message = f"{_NO_TASK_HEARTBEAT}marking the task run {task_run_id} ({task_run['name']}) as failed."
        state = plain_state(RunState.FAILED, message, call.now, **_inputs(task_run))
    enter_task_state(call, task_run, state)
    _log(call, "ZombieKiller.TaskRun", "ERROR", message, flow_run["id"], task_run_id)


def _retries(call: Call, task_run_id: str) -> int:
    states = select(func.count()).where(
        TASK_RUN_STATE.c.task_run_id == task_run_id, TASK_RUN_STATE.c.state == RunState.RETRYING.value
    )
    return call.connection.execute(states).scalar_one()


def _inputs(task_run: RowMapping) -> dict[str, Any]:
    # A later try finds the inputs that an earlier one was given.
    return {"cached_inputs": task_run["serialized_state"].get("cached_inputs") or {}}


def _resurrect(call: Call, flow_run_id: str, attempts: int) -> None:
    attempt = flow_run_row(call, flow_run_id)["times_resurrected"] + 1
    if attempt > attempts:
        message = (
            f"A Lazarus process attempted to reschedule this run {attempts} times without success. Marking as failed."
        )
        _change_run(call, flow_run_id, Event.FAIL, message)
        _log(call, "Lazarus.FlowRun", "ERROR", message, flow_run_id)
        return
    _change_run(call, flow_run_id, Event.SCHEDULE, _RESCHEDULED)
    changed = update(FLOW_RUN).where(FLOW_RUN.c.id == flow_run_id)
    call.connection.execute(changed, {"times_resurrected": attempt})
    _log(call, "Lazarus.FlowRun", "INFO", f"{_RESCHEDULED} This is attempt {attempt}.", flow_run_id)


def _change_run(call: Call, flow_run_id: str, event: Event, message: str) -> None:
    run = flow_run_row(call, flow_run_id)
    target = after(RunState(run["state"]), event)
    if target is RunState.SCHEDULED:
        state = plain_state(target, message, call.now, call.now, start_time=format_time(call.now))
    else:
        state = plain_state(target, message, call.now)
    enter_state(call, run, state)


def _log(call: Call, service: str, level: str, message: str, flow_run_id: str, task_run_id: str | None = None) -> None:
    row = {
        "flow_run_id": flow_run_id,
        "task_run_id": task_run_id,
        "timestamp": call.now,
        "name": f"prefect-server.{service}",
        "level": level,
        "message": message,
    }
    call.connection.execute(insert(LOG), row)

"""Which runs count as dead because their heartbeat has stopped: thresholds, and queries that find the runs.

Thresholds, and which runs are left alone, are those of the dialect's real server, except for runs that a flowherd agent
has claimed: those outlive their agent, which reports what became of them when it is back.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, and_, func, or_, select

from flowherd.states import ACTIVE, TAKEN, RunState
from flowherd_server.runs.flow_switches import HEARTBEAT, LAZARUS
from flowherd_server.runs.new_state import BY_PREFECTS_AGENT
from flowherd_server.store.microseconds import SECOND_US, now_us
from flowherd_server.store.tables import FLOW, FLOW_GROUP, FLOW_RUN, TASK_RUN

#: A flow run with a task run in one of these states is not dead, whatever its heartbeat, because it will go on.
_GOES_ON = sorted(ACTIVE | {RunState.SCHEDULED, RunState.PAUSED, RunState.RESUME, RunState.RETRYING})
#: States of a run that an agent has claimed and that has not ended.
_CLAIMED = sorted(TAKEN)


@dataclass(frozen=True, kw_only=True)
class RescueOptions:
    """When a run counts as dead, and how often the server looks for dead runs."""

    #: Maximum age of the last heartbeat, seconds.
    heartbeat_timeout_s: float = 600.0
    #: The same for a run that a flowherd agent has claimed; 0 is never, because the run may go on without its agent.
    agent_timeout_s: float = 0.0
    #: Seconds between two searches for zombies; 0 is never.
    zombie_interval_s: float = 120.0
    #: Seconds between two passes of Lazarus; 0 is never.
    lazarus_interval_s: float = 600.0
    #: Number of times that a flow run is put back into the queue before it is failed.
    lazarus_attempts: int = 3

    def stale(self, before_us: int) -> StaleHeartbeats:
        """Return which heartbeats are too old if those until `before_us` are."""
        if not self.agent_timeout_s:
            return StaleHeartbeats(before_us=before_us)
        more_s = max(0.0, self.agent_timeout_s - self.heartbeat_timeout_s)
        return StaleHeartbeats(before_us=before_us, claimed_before_us=before_us - round(more_s * SECOND_US))


@dataclass(frozen=True, kw_only=True)
class StaleHeartbeats:
    """Which heartbeats are too old, in microseconds since the epoch."""

    #: Until this time.
    before_us: int
    #: Until this time for runs that a flowherd agent has claimed; None if theirs are never too old.
    claimed_before_us: int | None = None

    @property
    def condition(self) -> ColumnElement[bool]:
        """The condition that a flow run's heartbeat is too old."""
        ours = func.coalesce(FLOW_RUN.c.claim.not_like(f"{BY_PREFECTS_AGENT}%"), False)
        others = and_(~ours, FLOW_RUN.c.heartbeat <= self.before_us)
        if self.claimed_before_us is None:
            return others
        return or_(others, and_(ours, FLOW_RUN.c.heartbeat <= self.claimed_before_us))


class HeartbeatWatch:
    """Since when this server has been there to receive heartbeats.

    While it was down, or its host asleep, it received none, which does not make a run a dead one.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_us = round(timeout_s * SECOND_US)
        self._since_us = self._looked_us = now_us()

    def stale_before(self, interval_s: float) -> int | None:
        """Return the time until which heartbeats are too old, or None while that cannot be known.

        Must be called every `interval_s` seconds.
        """
        now = now_us()
        if abs(now - self._looked_us) > interval_s * SECOND_US + self._timeout_us / 2:
            self._since_us = now
        self._looked_us = now
        return now - self._timeout_us if self._since_us <= now - self._timeout_us else None


def zombie_task_runs(stale: StaleHeartbeats) -> Select[tuple[str]]:
    """Return the query for task runs that are Running in a flow run without a heartbeat."""
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


def zombie_flow_runs(stale: StaleHeartbeats) -> Select[tuple[str]]:
    """Return the query for flow runs that are Cancelling without a heartbeat, so no process will report their end."""
    return (
        select(FLOW_RUN.c.id)
        .where(
            FLOW_RUN.c.state == RunState.CANCELLING.value,
            stale.condition,
            ~_switched_off(HEARTBEAT),
        )
        .order_by(FLOW_RUN.c.state_start_time, FLOW_RUN.c.seq)
    )


def dead_flow_runs(stale: StaleHeartbeats) -> Select[tuple[str]]:
    """Return the query for flow runs that are Submitted or Running without a heartbeat, and without a live task run."""
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


def forgotten_flow_runs(stale: StaleHeartbeats, restored_us: int) -> Select[tuple[str]]:
    """Return the query for unfinished runs that no flowherd agent has named since the database was restored.

    Only for servers that have run for long enough since: the agent of such a run would have sent a heartbeat.
    """
    return (
        select(FLOW_RUN.c.id)
        .where(
            FLOW_RUN.c.state.in_(_CLAIMED),
            FLOW_RUN.c.claim.not_like(f"{BY_PREFECTS_AGENT}%"),
            FLOW_RUN.c.heartbeat <= min(restored_us, stale.before_us),
        )
        .order_by(FLOW_RUN.c.heartbeat, FLOW_RUN.c.seq)
    )


def _switched_off(switch: str) -> ColumnElement[bool]:
    """Return the condition that the flow run's flow group has switched `switch` off."""
    value = func.json_type(FLOW_GROUP.c.settings, f"$.{switch}")
    return (
        select(FLOW.c.id)
        .join(FLOW_GROUP, FLOW_GROUP.c.id == FLOW.c.flow_group_id)
        .where(and_(FLOW.c.id == FLOW_RUN.c.flow_id, value == "false"))
        .correlate(FLOW_RUN)
        .exists()
    )

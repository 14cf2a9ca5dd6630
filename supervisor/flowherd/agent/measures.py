"""What an agent measures of its own work, for its metrics and traces. Kept in memory; a new agent begins at 0."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import NamedTuple

from flowherd.metrics.ended_runs import EndedRun, begin_flow, count_end
from flowherd.metrics.tally import Tally
from flowherd.states import FINISHED, RunState
from flowherd.times import read_time
from flowherd.values import FlowRun, StateReport

#: Number of claimed runs whose times are remembered until they end; the oldest are forgotten.
_REMEMBERED = 10_000


class ClaimTimes(NamedTuple):
    """When a run was due (None: not known) and when this agent knew that it has it, seconds since the epoch."""

    due: float | None
    claimed: float


class RunOfHost(NamedTuple):
    """Who a run is, for those who know no host."""

    id: str
    name: str
    flow: str
    attempt: str
    #: When its flow process started; None if it did not, or if that is not known.
    started: datetime | None


class ReportedRun(NamedTuple):
    """A run whose end the backend has."""

    run: RunOfHost
    #: The state at the backend.
    result: RunState
    #: What the agent concluded of the process.
    end: StateReport
    #: None if another agent claimed it.
    claim: ClaimTimes | None
    #: When the backend had the end, seconds since the epoch.
    known: float


class Measures:
    """The counters of one agent, and the times of its runs. Usable from any thread."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._claimed: dict[str, ClaimTimes] = {}
        #: Called with each run whose end the backend has, in the thread that delivered it.
        self.on_reported: Callable[[ReportedRun], None] = lambda _run: None
        #: Called when the agent has stopped.
        self.on_close: Callable[[], None] = lambda: None
        for outcome in ("won", "lost", "failed"):
            self.tally.begin("flowherd_claims_total", 0.0, outcome)

    def claims_answered(self, seconds: float, outcomes: Sequence[str]) -> None:
        """Count claims that were made in one request: each "won", "lost" or "failed"."""
        for outcome in outcomes:
            self.tally.add("flowherd_claims_total", outcome)
            if outcome != "failed":
                self.tally.observe("flowherd_claim_seconds", seconds)

    def claimed(self, flow_run: FlowRun) -> None:
        """Note that this agent has a run and is about to start it."""
        times = ClaimTimes(due_time(flow_run), time.time())
        begin_flow(self.tally, flow_run.flow.name)
        if times.due is not None:
            self.tally.observe("flowherd_waiting_seconds", times.claimed - times.due)
        self._claimed[flow_run.id] = times
        if len(self._claimed) > _REMEMBERED:
            self._claimed.pop(next(iter(self._claimed)), None)

    def reported(self, run: RunOfHost, end: StateReport, result: RunState) -> None:
        """Count a run whose end the backend has; `result` is the state there.

        A run whose own engine has left it waiting for its next start has not ended.
        """
        if result not in FINISHED:
            return
        claim, known = self._claimed.pop(run.id, None), time.time()
        phases, figures = dict(end.phases), dict(end.figures)
        started = None if run.started is None else run.started.timestamp()
        ended = EndedRun(
            flow=run.flow,
            result=result,
            cause=end.reason,
            started=started,
            ended=end.at.timestamp(),
            known=known,
            phases=phases,
            figures=figures,
        )
        count_end(self.tally, ended)
        self.tally.add("flowherd_lines_in_total", by=figures.get("lines", 0.0))
        code = phases.get("code", started)
        if claim is not None and code is not None:
            self.tally.observe("flowherd_fork_seconds", code - claim.claimed)
        self.on_reported(ReportedRun(run, result, end, claim, known))


def due_time(flow_run: FlowRun) -> float | None:
    """Return when a run was due, seconds since the epoch: for its first start, or that of its state if it is later."""
    state = flow_run.serialized_state if isinstance(flow_run.serialized_state, Mapping) else {}
    given = dict.fromkeys((flow_run.scheduled_start_time, state.get("start_time")))
    return max((at for at in map(_seconds, given) if at is not None), default=None)


def _seconds(value: object) -> float | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)).timestamp()
    try:
        return read_time(value, naive="utc").timestamp() if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None

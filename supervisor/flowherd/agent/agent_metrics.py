"""The metrics of an agent, at GET /metrics: what it has counted, and what is so now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flowherd.agent.connection import Connection
from flowherd.agent.health import Health
from flowherd.agent.platform import Figures
from flowherd.host_figures import HostFigures
from flowherd.metrics.common import build_info, host_samples
from flowherd.metrics.exposition import exposition
from flowherd.metrics.families import Part
from flowherd.metrics.tally import Sample
from flowherd.states import RunState

#: States of runs that have series from the start, and reasons for claiming nothing (`ClaimPause.word`).
_STATES = (RunState.SUBMITTED.value, RunState.RUNNING.value)
_REASONS = ("paused", "draining", "restarting", "stopping", "spool full", "state directory lost")

Run = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class AgentMetrics:
    """What an agent knows of itself, as functions that return it."""

    connection: Connection
    health: Callable[[], Health]
    #: Returns one object for each run that has not ended, as GET /api/runs.
    runs: Callable[[Collection[str]], Sequence[Run]]
    figures: Callable[[], Figures]
    host: Callable[[], HostFigures]

    def text(self, *, by_run: bool, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their media type; with `by_run` also those with the ids of running runs."""
        return exposition(Part.AGENT, self.connection.measures.tally, self._gauges(by_run=by_run), accept)

    def _gauges(self, *, by_run: bool) -> Iterator[Sample]:
        health, figures, runs = self.health(), self.figures(), self.runs(())
        yield build_info(Part.AGENT)
        yield Sample("flowherd_up", float(health.well))
        yield from _limits(figures)
        paused = health.claim_pause.word if health.claim_pause is not None else ""
        for reason in dict.fromkeys((*_REASONS, *([paused] if paused else []))):
            yield Sample("flowherd_paused", float(reason == paused), (reason,))
        yield Sample("flowherd_backend_contact_timestamp_seconds", self._contact())
        yield from host_samples(self.host())
        yield from _by_state(runs)
        yield from self._by_flow(runs)
        if by_run:
            yield from _by_run(runs)

    def _contact(self) -> float:
        return 0.0 if self.connection.last_contact_s is None else time.time() - self.connection.silent_s()

    def _by_flow(self, runs: Sequence[Run]) -> Iterator[Sample]:
        memory: Counter[str] = Counter()
        processes: Counter[str] = Counter()
        for run in runs:
            flow = self.connection.measures.tally.flow(str(run.get("flow", "")))
            memory[flow] += run.get("memory_bytes") or 0
            processes[flow] += run.get("processes") or 0
        yield from (Sample("flowherd_flow_memory_bytes", float(value), (flow,)) for flow, value in memory.items())
        yield from (Sample("flowherd_flow_processes", float(value), (flow,)) for flow, value in processes.items())


def _limits(figures: Figures) -> Iterator[Sample]:
    yield Sample("flowherd_spool_bytes", float(figures.spool_bytes))
    if figures.limit is not None:
        yield Sample("flowherd_runs_limit", float(figures.limit))
    if figures.own_memory_bytes is not None:
        yield Sample("flowherd_agent_memory_bytes", float(figures.own_memory_bytes))
    if figures.spool_most_bytes is not None:
        yield Sample("flowherd_spool_limit_bytes", float(figures.spool_most_bytes))


def _by_state(runs: Sequence[Run]) -> Iterator[Sample]:
    states = Counter(dict.fromkeys(_STATES, 0))
    states.update(str(run.get("state", "")) for run in runs)
    return (Sample("flowherd_runs", float(count), (state,)) for state, count in states.items())


def _by_run(runs: Sequence[Run]) -> Iterator[Sample]:
    for run in runs:
        labels = str(run.get("id", "")), str(run.get("flow", ""))
        yield Sample("flowherd_run_memory_bytes", float(run.get("memory_bytes") or 0), labels)
        yield Sample("flowherd_run_processes", float(run.get("processes") or 0), labels)
        yield Sample("flowherd_run_cpu_seconds_total", float(run.get("cpu_time_s") or 0.0), labels)

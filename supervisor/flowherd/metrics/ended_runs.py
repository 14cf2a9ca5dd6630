"""What is counted of each run that ends: the same at the agent and at the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flowherd.metrics.tally import Tally
from flowherd.states import SUCCESSFUL, RunState
from flowherd_runner.contract import reasons

#: Ends whose series begin at 0 when a flow is first heard of: an increase is seen only of a series that was there.
_USUAL_ENDS = (
    (RunState.SUCCESS, reasons.REASON_EXITED),
    (RunState.FAILED, reasons.REASON_EXITED),
    (RunState.FAILED, reasons.REASON_EXCEPTION),
)
#: Label of a run whose cause nobody has told, as of one that Prefect's agent has run.
UNKNOWN = "unknown"
#: Label of a cause that this release does not know.
OTHER = "other"
_CAUSES = frozenset(value for name, value in vars(reasons).items() if name.startswith("REASON_"))


@dataclass(frozen=True, kw_only=True)
class EndedRun:
    """A run whose end the backend knows. Times are seconds since the epoch, None if not known."""

    flow: str
    result: RunState
    #: A reason of flowherd_runner/contract/reasons.py.
    cause: str | None
    started: float | None
    ended: float
    #: When the backend had the end.
    known: float
    #: `phases` and `figures` of the last state (phase_times.py, end_figures.py).
    phases: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


def begin_flow(tally: Tally, name: str) -> str:
    """Have the series of a flow begin, and return its label."""
    flow = tally.flow(name)
    for result, cause in _USUAL_ENDS:
        tally.begin("flowherd_runs_ended_total", 0.0, flow, result.value, cause)
    return flow


def count_end(tally: Tally, run: EndedRun) -> None:
    """Count a run that has ended."""
    flow = begin_flow(tally, run.flow)
    cause = UNKNOWN if run.cause is None else run.cause if run.cause in _CAUSES else OTHER
    tally.add("flowherd_runs_ended_total", flow, run.result.value, cause)
    tally.set("flowherd_flow_failing", float(is_bad(run.result)), flow)
    code, first_line = run.phases.get("code", run.started), run.phases.get("first_line")
    if code is not None:
        tally.observe("flowherd_run_seconds", run.ended - code)
        tally.observe("flowherd_flow_run_seconds", run.ended - code, flow)
        if first_line is not None:
            tally.observe("flowherd_first_line_seconds", first_line - code)
    tally.observe("flowherd_report_seconds", run.known - run.ended)
    tally.add("flowherd_flow_cpu_seconds_total", flow, by=run.figures.get("cpu_time_s", 0.0))
    tally.add("flowherd_lines_dropped_total", by=run.figures.get("lines_dropped", 0.0))


def is_bad(result: RunState) -> bool:
    """Return whether an end counts against its flow: a run that a person cancelled does not."""
    return result not in SUCCESSFUL and result is not RunState.CANCELLED

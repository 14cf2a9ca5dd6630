"""What the trace of a run consists of, as plain values: one span for the attempt, and one for each phase below it.

Names are those of OpenTelemetry's conventions for CI/CD (https://opentelemetry.io/docs/specs/semconv/cicd/): a flow is
a pipeline, a run of it a pipeline run, and a phase a task of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from flowherd.agent.measures import ReportedRun
from flowherd.states import SUCCESSFUL, RunState
from flowherd.trace_context import ROOT_SPAN, RUN_SPAN, span_id
from flowherd_runner.contract import reasons

#: Ends that say nothing of the flow: its runner, agent or host ended it, or it was never started.
_ERRORS = frozenset(
    {
        reasons.REASON_NOT_STARTED,
        reasons.REASON_LOST,
        reasons.REASON_REBOOT,
        reasons.REASON_TERMINATED,
        reasons.REASON_LOST_CONTACT,
        reasons.REASON_AGENT_STOP,
        reasons.REASON_OOM,
    }
)
Value = str | float | int


@dataclass(frozen=True, kw_only=True)
class RunSpan:
    """One span. Times are seconds since the epoch."""

    #: The name that its id is made of; that of the attempt's own span is empty.
    key: str
    name: str
    begin: float
    end: float
    attributes: Mapping[str, Value]
    #: The message of a bad end; None for others.
    error: str | None = None
    #: Times of events within it.
    events: tuple[tuple[str, float], ...] = ()


def spans_of(reported: ReportedRun) -> list[RunSpan]:
    """Return the spans of an attempt that has ended, that of the whole attempt first; phases not known are left out."""
    run, end = reported.run, reported.end
    phases = _phases(reported)
    result = pipeline_result(reported.result, end.reason)
    error = end.message if result in ("failure", "error", "timeout") else None
    begin = min((begin for _, begin, _ in phases), default=end.at.timestamp())
    whole = RunSpan(
        key=ROOT_SPAN,
        name=f"RUN {run.flow}" if run.flow else "RUN",
        begin=begin,
        end=max(begin, reported.known),
        attributes=_attributes(reported, result),
        error=error,
    )
    return [whole, *(_phase(reported, one, result, error) for one in phases)]


def pipeline_result(state: RunState, reason: str | None) -> str:
    """Return the conventions' word for an end (cicd.pipeline.result)."""
    if state is RunState.SKIPPED:
        return "skip"
    if state in SUCCESSFUL:
        return "success"
    if state is RunState.CANCELLED:
        return "cancellation"
    if state is RunState.TIMED_OUT or reason == reasons.REASON_TIMEOUT:
        return "timeout"
    return "error" if reason in _ERRORS else "failure"


def _phases(reported: ReportedRun) -> list[tuple[str, float, float]]:
    """Return name, begin and end of each phase whose times are known."""
    claim, times, ended = reported.claim, dict(reported.end.phases), reported.end.at.timestamp()
    started = reported.run.started
    code = times.get("code", None if started is None else started.timestamp())
    steps = [
        ("waiting", None if claim is None else claim.due),
        ("claim", None if claim is None else times.get("intent")),
        ("fork", None if claim is None else claim.claimed),
        (RUN_SPAN, code),
        ("report", ended),
        ("", reported.known),
    ]
    known = [(name, at) for name, at in steps if at is not None]
    # A fork may be over before the answer to the claim is known here; and clocks of two hosts may disagree.
    return [(name, at, max(at, until)) for (name, at), (_, until) in pairwise(known)]


def _phase(reported: ReportedRun, phase: tuple[str, float, float], result: str, error: str | None) -> RunSpan:
    name, begin, end = phase
    run, is_run = reported.run, name == RUN_SPAN
    first_line = dict(reported.end.phases).get("first_line")
    return RunSpan(
        key=name,
        name=name,
        begin=begin,
        end=end,
        attributes={
            "cicd.pipeline.task.name": name,
            "cicd.pipeline.task.run.id": f"{span_id(run.id, run.attempt, name):016x}",
            "cicd.pipeline.task.run.result": result if is_run else "success",
        },
        error=error if is_run else None,
        events=(("first line", first_line),) if is_run and first_line is not None else (),
    )


def _attributes(reported: ReportedRun, result: str) -> dict[str, Value]:
    run, end = reported.run, reported.end
    found: dict[str, Value | None] = {
        "cicd.pipeline.name": run.flow,
        "cicd.pipeline.run.id": run.id,
        "cicd.pipeline.action.name": "RUN",
        "cicd.pipeline.result": result,
        "error.type": end.reason or reported.result.value if result in ("failure", "error", "timeout") else None,
        "flowherd.run.name": run.name,
        "flowherd.run.state": reported.result.value,
        "flowherd.run.attempt": run.attempt,
        "flowherd.run.cause": end.reason,
        "flowherd.run.cause.grade": end.grade,
        **{f"flowherd.run.{name}": value for name, value in end.figures},
    }
    return {name: value for name, value in found.items() if value not in (None, "")}

"""What is known of one run: verdict, story, processes and parameters, by the rules of flowherd.story."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from flowherd.cli.top.picture import Figures, RunRow
from flowherd.cli.top.sources import Event, ProcessLine, RunPage
from flowherd.errors import NotFound
from flowherd.states import RunState
from flowherd.story.live import ProcessFigures
from flowherd.story.records import AgentView, agent_name
from flowherd.story.timeline import StoryLine, events_of, story
from flowherd.story.tones import Tone
from flowherd.story.verdict import EndFacts, LiveFacts, Verdict, end_facts, verdict
from flowherd.story.waiting import run_waits, tasks_wait
from flowherd.web import shown_values

if TYPE_CHECKING:
    from flowherd.client.run_details import RunDetails
    from flowherd.client.runs import RunView
    from flowherd.client.user_client import UserClient

_STYLES = {Tone.RUN: "run", Tone.OK: "ok", Tone.BAD: "bad", Tone.WARN: "warn", Tone.WAIT: ""}


def page_of(
    client: UserClient, run_id: str, agents: Sequence[AgentView], usual_s: float | None, row: RunRow
) -> RunPage:
    """Return what a server has of a run. Raises NotFound if it has none, and what the client raises."""
    run = client.runs.get(run_id)
    if run is None:
        raise NotFound(f"the run {run_id} no longer exists; it was deleted or pruned")
    now = datetime.now(timezone.utc)
    history = client.history(run.id)
    states, notices = history.states(), history.notices()
    details = client.details(run.id)
    waits: list[str] = []
    if not run.finished:
        tasks = history.waiting_tasks() if run.state == RunState.RUNNING else []
        waits = [*run_waits(run, agents, {}, now), *tasks_wait(tasks, now)]
    last = states[-1] if states else None
    reason, grade = (last.reason, last.grade) if last is not None else (None, None)
    end = end_facts(run, reason, grade, details.account, notices) if run.finished else EndFacts()
    name = agent_name(agents, run.agent_id)
    found = verdict(run, now=now, end=end, live=_live_facts(row, name, usual_s), waits=waits)
    return RunPage(
        **head_of(found),
        state=run.state,
        ended=run.end_time,
        events=[event_of(one) for one in story(run, states, notices, events_of(details.account), name)],
        processes=process_lines(details.processes or (details.account.processes if details.account else ())),
        no_processes="Its processes are not known." if row.is_live else "No processes are known of it.",
        parameters=masked(run.parameters),
        figures=_curves(details),
        facts=_facts(run, name),
    )


def head_of(found: Verdict) -> dict[str, Any]:
    """Return the first arguments of a RunPage."""
    return {"sentence": found.sentence, "grade": found.grade, "style": _STYLES[found.tone], "details": found.details}


def event_of(one: StoryLine) -> Event:
    """Return a line of a story as it is shown."""
    detail = "; ".join(part for part in (one.rest, one.detail, one.grade) if part)
    return Event(at=one.at, what=one.what, detail=detail, style=_STYLES[one.tone])


def process_lines(processes: Sequence[ProcessFigures]) -> list[ProcessLine]:
    """Return processes, parents first, with the number of each one's ancestors."""
    depths: dict[int, int] = {}
    lines = []
    for one in processes:
        depths[one.pid] = depths[one.parent] + 1 if one.parent in depths else 0
        lines.append(
            ProcessLine(
                pid=one.pid,
                depth=depths[one.pid],
                command=one.command,
                cpu_time_s=one.cpu_time_s,
                memory_bytes=one.memory_bytes,
            )
        )
    return lines


def masked(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters without their secrets."""
    return {name: shown_values.masked(name, value) for name, value in parameters.items()}


def _live_facts(row: RunRow, agent: str | None, usual_s: float | None) -> LiveFacts:
    figures = row.figures or Figures()
    return LiveFacts(
        agent=agent,
        usual_s=usual_s,
        stuck=row.stuck,
        memory_bytes=figures.memory_bytes,
        memory_limit_bytes=figures.limit_bytes,
    )


def _curves(details: RunDetails) -> Figures | None:
    """Return the curves of a run that goes on, or of one that has ended."""
    account = details.account
    samples = account.samples if account is not None else details.curve
    if not samples:
        return None
    return Figures(
        peak_bytes=account.peak_memory_bytes if account is not None else None,
        limit_bytes=account.memory_limit_bytes if account is not None else None,
        cpu_history=[100 * one.cpu_share for one in samples if one.cpu_share is not None],
        memory_history=[float(one.memory_bytes) for one in samples if one.memory_bytes is not None],
    )


def _facts(run: RunView, agent: str | None) -> dict[str, str]:
    facts = {"id": run.id, "labels": ", ".join(run.labels), "agent": agent or "", "pid": str(run.pid or "")}
    return {name: value for name, value in {**facts, "repeats": run.repeats or ""}.items() if value}

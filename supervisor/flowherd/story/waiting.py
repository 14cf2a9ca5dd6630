"""Why a flow run has not started, or which agent has it, from what the backend and agents report.

Pure functions, for the command line and the pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from flowherd.shown_times import local_time, spoken_span
from flowherd.states import CLAIMABLE, RunState
from flowherd.story.records import AgentView, RunRecord, WaitingTaskView, missing_labels

#: How long a due run may wait before that is remarkable: the longest pause between two polls of an agent, seconds.
_POLL_S = 10.0
#: Maximum number of waiting tasks, and of living agents, that are named.
_MAX_NAMED = 5


def run_waits(
    run: RunRecord, agents: Sequence[AgentView], local: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[str]:
    """Return sentences on what the run waits for, the most important first; none for a finished run.

    `local` is what the agents of this host report about themselves (GET /api/agent), by their names.
    """
    if run.finished:
        return []
    if run.state == RunState.QUEUED and run.message:  # it says for what
        return [run.message]
    if run.state in CLAIMABLE:
        return _unclaimed(run, agents, local, now)
    return [*_claimed(run, agents, now), *_imports(run, local.values())]


def tasks_wait(tasks: Sequence[WaitingTaskView], now: datetime) -> list[str]:
    """Return sentences on the tasks that a run has left waiting; only runs with an engine of their own do that."""
    sentences = []
    for task in tasks[:_MAX_NAMED]:
        if task.due is None or task.state == RunState.PAUSED:
            until = "until somebody resumes it"
        elif task.due > now:
            until = f"until {local_time(task.due, now)}, in {spoken_span((task.due - now).total_seconds())}"
        else:
            until = "and is due"
        sentences.append(f"Its task {task.task!r} is {task.state} {until}.")
    if len(tasks) > _MAX_NAMED:
        sentences.append(f"{len(tasks) - _MAX_NAMED} more of its tasks wait.")
    if tasks:
        sentences.append("When a task is due and no process of the run is alive, an agent starts the run again.")
    return sentences


def _unclaimed(
    run: RunRecord, agents: Sequence[AgentView], local: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[str]:
    sentences = []
    due = run.due
    if due is not None and due > now:
        sentences.append(f"It is not due before {local_time(due, now)}, in {spoken_span((due - now).total_seconds())}.")
    living = [agent for agent in agents if agent.alive(now)]
    missing = missing_labels(run.labels, living)
    if not living:
        wanted = f" with the labels {', '.join(run.labels)}" if run.labels else ""
        sentences.append(f"No agent{wanted} is running; start one with `flowherd start`.")
    elif missing:
        listed = "; ".join(f"{agent.name} [{', '.join(agent.labels) or 'no labels'}]" for agent in living[:_MAX_NAMED])
        sentences.append(f"No living agent has the label {', '.join(missing)}; living: {listed}.")
    elif missing is not None:
        sentences.append("It has no labels, so only an agent without labels takes it (--no-hostname-label).")
    else:
        matching = [agent for agent in living if missing_labels(run.labels, [agent]) is None]
        why = [_why_agent_claims_nothing(local.get(a.name) or _as_reported(a), run.labels) for a in matching]
        free = [agent for agent, reasons in zip(matching, why, strict=True) if not reasons]
        if not free:
            sentences += [sentence for reasons in why for sentence in reasons]
        elif not sentences:
            sentences.append(_about_to_be_claimed(due, free, now))
    return sentences


def _about_to_be_claimed(due: datetime | None, agents: Sequence[AgentView], now: datetime) -> str:
    *others, last = [agent.name for agent in agents]
    names = f"{', '.join(others)} or {last}" if others else last
    waited_s = (now - due).total_seconds() if due is not None else 0.0
    late = f"; it has waited {spoken_span(waited_s)}, see that agent's log" if waited_s > _POLL_S else ""
    return f"It is due, and {names} takes it at the next poll{late}."


def _as_reported(agent: AgentView) -> Mapping[str, Any] | None:
    """Return what an agent of another host has reported to the server, as agents of this host say it."""
    report = agent.report
    if report is None:
        return None
    facts = {"agent": agent.name, "status": report.hold or "ok", "reason": report.hold_reason}
    return {**facts, "limit": report.limit, "runs": report.runs if agent.runs is None else agent.runs}


def _why_agent_claims_nothing(facts: Mapping[str, Any] | None, labels: Sequence[str]) -> list[str]:
    """Return why an agent with these labels claims no run that has them; `facts` is what it reports."""
    if facts is None:
        return []
    name, status = facts.get("agent"), facts.get("status")
    if status not in (None, "ok"):
        return [f"Agent {name!r} claims nothing: {facts.get('reason') or status}."]
    limit, runs = facts.get("limit"), facts.get("runs")
    if isinstance(limit, int) and isinstance(runs, int) and runs >= limit:
        return [f"Agent {name!r} has no room: {runs} of {limit} runs are running (--limit)."]
    full = facts.get("full_labels") or {}
    room = f"Agent {name!r} has no room for the label"
    return [
        f"{room} {label}: {full[label]} of its runs {'is' if full[label] == 1 else 'are'} running (agent.label_limits)."
        for label in labels
        if label in full
    ]


def _imports(run: RunRecord, local: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what the fork server is importing that the run waits for."""
    sentences = []
    for facts in local:
        for wait in facts.get("preloading") or ():
            if run.id in wait.get("runs", ()):
                what = f"{wait.get('interpreter')} has been importing {wait.get('module') or 'its first module'}"
                sentences.append(f"It waits for its fork server: {what} for {spoken_span(wait.get('seconds', 0.0))}.")
    return sentences


def _claimed(run: RunRecord, agents: Sequence[AgentView], now: datetime) -> list[str]:
    owner = next((agent for agent in agents if agent.id == run.agent_id), None)
    if owner is not None and owner.alive(now):
        return [f"Agent {owner.name!r} has it."]
    # After a restart an agent has a new id at the backend.
    restarted = next(
        (agent for agent in agents if owner is not None and agent.name == owner.name and agent.alive(now)), None
    )
    if restarted is not None:
        return [f"Agent {restarted.name!r} has it, which was restarted since it claimed the run."]
    name = repr(owner.name) if owner is not None else "that claimed it"
    return [f"Agent {name} is not running; the run may go on, and is adopted when that agent starts again."]

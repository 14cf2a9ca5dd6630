"""Why a flow run has not started, or who has it: a function of what the backend and the agents of this host say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from flowherd.cli.parse_options import local_time, span
from flowherd.client.history import WaitingTaskView
from flowherd.client.user import AgentView, RunView, missing_labels
from flowherd.states import CLAIMABLE, RunState

#: How long a due run may wait for an agent that takes it before that is worth a word: the longest pause between polls.
_POLL_S = 10.0
#: Of a run's waiting tasks, so many are named.
_MOST_TASKS = 5


def standing(
    run: RunView, agents: Sequence[AgentView], local: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[str]:
    """Sentences on what the run is waiting for now, the weightiest first; none for a finished one.

    `local` is what the agents of this host say of themselves (GET /api/agent), by their names.
    """
    if run.finished:
        return []
    if run.state in CLAIMABLE:
        return _unclaimed(run, agents, local, now)
    return _claimed(run, agents, now)


def waiting_words(tasks: Sequence[WaitingTaskView], now: datetime) -> list[str]:
    """Sentences on what a run that has begun waits for, when its own engine left tasks waiting."""
    words = []
    for task in tasks[:_MOST_TASKS]:
        if task.due is None or task.state == RunState.PAUSED:
            until = "until somebody resumes it"
        elif task.due > now:
            until = f"until {local_time(task.due, now)}, in {span((task.due - now).total_seconds())}"
        else:
            until = "and is due"
        words.append(f"Its task {task.task!r} is {task.state} {until}.")
    if len(tasks) > _MOST_TASKS:
        words.append(f"{len(tasks) - _MOST_TASKS} more of its tasks wait.")
    if tasks:
        words.append("When a task is due and no process of the run lives, an agent starts the run again.")
    return words


def _unclaimed(
    run: RunView, agents: Sequence[AgentView], local: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[str]:
    found = []
    due = run.scheduled_start_time
    if due is not None and due > now:
        found.append(f"It is not due before {local_time(due, now)}, in {span((due - now).total_seconds())}.")
    living = [agent for agent in agents if agent.alive(now)]
    missing = missing_labels(run.labels, living)
    if not living:
        wanted = f" with the labels {', '.join(run.labels)}" if run.labels else ""
        found.append(f"No agent{wanted} is there; start one with `flowherd start`.")
    elif missing:
        there = "; ".join(f"{agent.name} [{', '.join(agent.labels) or 'no labels'}]" for agent in living[:5])
        found.append(f"No living agent has the label {', '.join(missing)}; living: {there}.")
    elif missing is not None:
        found.append("It has no labels, so only an agent without labels takes it (--no-hostname-label).")
    else:
        matching = [agent for agent in living if missing_labels(run.labels, [agent]) is None]
        found += [words for agent in matching for words in _reluctance(local.get(agent.name))]
        if not found:
            names = ", ".join(agent.name for agent in matching)
            waited_s = (now - due).total_seconds() if due is not None else 0.0
            late = f"; it has waited {span(waited_s)}, see that agent's log" if waited_s > _POLL_S else ""
            found.append(f"It is due, and {names} takes it at the next look{late}.")
    return found


def _reluctance(facts: Mapping[str, Any] | None) -> list[str]:
    """Why an agent of this host, whose labels are right, claims nothing."""
    if facts is None:
        return []
    name, status = facts.get("agent"), facts.get("status")
    if status not in (None, "ok"):
        return [f"Agent {name!r} claims nothing: {facts.get('reason') or status}."]
    limit, runs = facts.get("limit"), facts.get("runs")
    if isinstance(limit, int) and isinstance(runs, int) and runs >= limit:
        return [f"Agent {name!r} has no room: {runs} of {limit} runs are going (--limit)."]
    return []


def _claimed(run: RunView, agents: Sequence[AgentView], now: datetime) -> list[str]:
    owner = next((agent for agent in agents if agent.id == run.agent_id), None)
    if owner is not None and owner.alive(now):
        return [f"Agent {owner.name!r} has it."]
    # An agent that was started again has another id at the backend.
    again = next(
        (agent for agent in agents if owner is not None and agent.name == owner.name and agent.alive(now)), None
    )
    if again is not None:
        return [f"Agent {again.name!r} has it, which was started again since."]
    name = repr(owner.name) if owner is not None else "that claimed it"
    return [f"Agent {name} is not there now; the run may go on, and is adopted when that agent starts again."]

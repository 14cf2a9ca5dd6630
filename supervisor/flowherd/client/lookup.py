"""Finds the flow or the run that a person means at a server."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from difflib import get_close_matches

from flowherd.client.flows import RegisteredFlow
from flowherd.client.queries import batches
from flowherd.client.runs import RunView
from flowherd.client.schedules import ScheduleView
from flowherd.client.user_client import UserClient
from flowherd.errors import InvalidRequest, NotFound


def find_flow(client: UserClient, name: str, project: str | None, *, unregistered: bool = False) -> RegisteredFlow:
    """Return the newest version of the flow with this name; with `unregistered` also of one that is not registered.

    Raises NotFound if there is none, InvalidRequest if several projects have one.
    """
    found = client.flows.find(name, project, unregistered=unregistered)
    if not found:
        close = get_close_matches(name, {flow.name for flow in client.flows.find(project=project)}, n=1)
        hint = f"did you mean {close[0]}?" if close else "register it with `flowherd register`"
        raise NotFound(f"there is no flow {name!r} at {client.address}; {hint}")
    if len({flow.project for flow in found}) > 1:
        raise _in_projects(name, [flow.project for flow in found])
    return max(found, key=lambda flow: flow.version)


def find_schedule(client: UserClient, name: str, project: str | None) -> ScheduleView:
    """Return the schedule of the flow with this name.

    Raises NotFound if there is no such flow or it has no schedule, InvalidRequest if several projects have one.
    """
    found = client.schedules.find(datetime.now(timezone.utc), name, project)
    if not found:
        flow = find_flow(client, name, project)
        raise NotFound(f"flow {flow.name!r} has no schedule; register it again with --cron or --interval")
    if len({schedule.project for schedule in found}) > 1:
        raise _in_projects(name, [schedule.project for schedule in found])
    return max(found, key=lambda schedule: schedule.version)


def find_run(client: UserClient, text: str) -> RunView:
    """Return the run that `text` means: its id, the beginning of its id, or its name.

    Raises NotFound if there is none, InvalidRequest if there are several.
    """
    run_id = _id_in(text)
    exact = client.runs.get(run_id) if run_id else None
    found = [exact] if exact else client.runs.find(text)
    if not found:
        raise NotFound(f"there is no run {text!r} at {client.address}; see `flowherd ps --all`")
    if len(found) > 1:
        raise ambiguous(text, [run.id for run in found])
    return found[0]


def find_runs(client: UserClient, texts: Sequence[str]) -> list[RunView]:
    """Return the run that each of `texts` means, once each, in their order. Raises as `find_run` does."""
    ids = {text: run_id for text in dict.fromkeys(texts) if (run_id := _id_in(text))}
    wanted = list(ids.values())
    exact: dict[str, RunView] = {}
    if len(wanted) > 1:
        for some in batches(wanted):
            exact |= {run.id: run for run in client.runs.by_ids(some)}
    found = [exact.get(ids.get(text, "")) or find_run(client, text) for text in texts]
    return list({run.id: run for run in found}.values())


def ambiguous(text: str, run_ids: Sequence[str]) -> InvalidRequest:
    """Return the error for a text that may mean several runs."""
    return InvalidRequest(f"{text!r} may mean any of {', '.join(run_ids)}; use an id")


def _in_projects(name: str, projects: Iterable[str]) -> InvalidRequest:
    listed = ", ".join(sorted(set(projects)))
    return InvalidRequest(f"{name!r} is in the projects {listed}; name one of them (--project)")


def _id_in(text: str) -> str | None:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return None

"""Finds the schedules that a command names, and switches one on or off."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from flowherd.cli.format_times import local_time
from flowherd.client.lookup import find_schedule
from flowherd.client.schedules import ScheduleView
from flowherd.client.user_client import UserClient


def chosen_schedules(client: UserClient, names: Sequence[str] | None, project: str | None) -> list[ScheduleView]:
    """Return the schedules of these flows; without names all. Raises as `find_schedule` does."""
    if names is not None:
        return [find_schedule(client, name, project) for name in dict.fromkeys(names)]
    return sorted(client.schedules.find(datetime.now(timezone.utc), project=project), key=lambda each: each.flow)


def switch_schedule(client: UserClient, schedule: ScheduleView, *, on: bool) -> tuple[str, dict[str, Any]]:
    """Switch one on or off. Returns a sentence about it, and the fields of its JSON object."""
    changed = schedule.active != on
    if changed:
        client.schedules.switch(schedule.flow_id, on=on)
    now = datetime.now(timezone.utc)
    times = client.schedules.next_times(schedule.flow_id, 1, now) if on else []
    following = times[0] if times else None
    fields = {
        "flow": schedule.flow,
        "project": schedule.project,
        "paused": not on,
        "changed": changed,
        "next": following,
    }
    if not on:
        return (f"paused {schedule.flow}" if changed else f"{schedule.flow} was paused already"), fields
    first = "its schedule has ended" if following is None else f"next run at {local_time(following, now)}"
    return f"{f'resumed {schedule.flow}' if changed else f'{schedule.flow} was not paused'}; {first}", fields

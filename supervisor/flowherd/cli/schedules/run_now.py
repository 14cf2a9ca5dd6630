"""Starts a run as a flow's schedule would."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.client.flows import falsy_defaults
from flowherd.client.lookup import find_flow, find_schedule
from flowherd.schedules.in_words import clock_in_words, clocks_of


def run_now(api: str | None, name: str, project: str | None, number: int | None) -> str:
    """Create the run and return its id; `number` chooses among the clocks of the schedule, counted from 1.

    Raises CommandError if the flow has no schedule, or if it is not clear which clock is meant.
    """
    client, _ = open_client(api)
    schedule = find_schedule(client, name, project)
    clock = _clock(name, clocks_of(schedule.schedule), number)
    parameters, labels = clock.get("parameter_defaults"), clock.get("labels")
    flow = find_flow(client, name, project)
    given = {**falsy_defaults(flow.defaults), **(parameters if isinstance(parameters, dict) else {})}
    return client.runs.create(schedule.flow_id, parameters=given, labels=labels if isinstance(labels, list) else None)


def _clock(name: str, clocks: Any, number: int | None) -> Mapping[str, Any]:
    if number is not None and number > len(clocks):
        raise CommandError(
            f"the schedule of {name!r} has {len(clocks)} clocks, so --clock ends there", exit_codes.USAGE
        )
    if number is None and len({_gives(clock) for clock in clocks}) > 1:
        known = ", ".join(f"{place} ({clock_in_words(clock)})" for place, clock in enumerate(clocks, 1))
        raise CommandError(
            f"the clocks of {name!r} give their runs different parameters or labels; choose one with --clock: {known}",
            exit_codes.USAGE,
        )
    if not clocks:
        return {}
    found: Mapping[str, Any] = clocks[(number or 1) - 1]
    return found


def _gives(clock: Mapping[str, Any]) -> str:
    return repr((clock.get("parameter_defaults") or None, clock.get("labels") or None))

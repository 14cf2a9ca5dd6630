"""`flowherd ps`: the runs that wait or run, and on request those that have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli.format_times import local_time, took
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonArrayOption
from flowherd.cli.printing import STATE_STYLES, is_terminal, print_json, print_note, print_table

if TYPE_CHECKING:
    from flowherd.client.runs import RunView

#: Number of an id's first characters that a terminal shows.
_SHORT_ID = 8


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("ps", epilog="Example:  flowherd ps --all --json | jq '.[].state'")(ps)


def ps(
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Show finished runs too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="Show the newest N.")] = 100,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """List the runs that are waiting or running; with --all the finished ones too."""
    from flowherd.states import FINISHED, RunState

    client, _ = open_client(api)
    states = None if show_all else {state.value for state in RunState if state not in FINISHED}
    found = client.runs.newest(states=states, limit=limit)
    agent_names = {agent.id: agent.name for agent in client.agents.all()}
    if as_json:
        print_json([_fields(run, agent_names) for run in found])
    elif found or not is_terminal():
        _print_runs(found, agent_names)
    else:
        print_note("no runs" if show_all else "no runs are waiting or running; `flowherd ps --all` shows finished ones")


def _fields(run: RunView, agent_names: dict[str, str]) -> dict[str, Any]:
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow,
        "state": run.state,
        "message": run.message,
        "labels": list(run.labels),
        "agent": agent_names.get(run.agent_id or "", run.agent_id),
        "pid": run.pid,
        "reason": run.reason,
        "parameters": dict(run.parameters),
        "scheduled_start_time": run.scheduled_start_time,
        "start_time": run.start_time,
        "end_time": run.end_time,
    }


def _print_runs(runs: Sequence[RunView], agent_names: dict[str, str]) -> None:
    short = is_terminal()
    rows = [
        (
            run.id[:_SHORT_ID] if short else run.id,
            run.name,
            run.flow,
            run.state,
            agent_names.get(run.agent_id or "", ""),
            str(run.pid or ""),
            local_time(run.start_time or run.scheduled_start_time),
            took(run.start_time, run.end_time),
            run.message or "",
        )
        for run in runs
    ]
    columns = ("ID", "NAME", "FLOW", "STATE", "AGENT", "PID", "START", "TOOK", "MESSAGE")
    styles = [STATE_STYLES.get(run.state, "") for run in runs]
    print_table(columns, rows, styles=styles, one_line_each=True)

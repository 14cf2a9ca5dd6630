"""`flowherd retry`: runs that have ended, once more."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import exit_codes
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, JsonOption
from flowherd.cli.printing import print_error, print_json, print_line, print_note, print_warning
from flowherd.cli.runs.run_filters import (
    AgentsOption,
    FlowsOption,
    LabelsOption,
    SearchOption,
    SinceOption,
    StatesOption,
    UntilOption,
)
from flowherd.cli.runs.selection import RunsArgument, YesOption, chosen_runs, confirm, counted, is_one

_EXAMPLES = """
Examples:

  flowherd retry 3f2a

  flowherd retry --flow nightly --since 12h

  flowherd wait $(flowherd retry --latest 3f2a)
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("retry", epilog=_EXAMPLES)(retry)


def retry(
    run: RunsArgument = None,
    latest: Annotated[
        bool,
        typer.Option("--latest", help="Run the newest version of the flow (default: the version that the run had)"),
    ] = False,
    state: StatesOption = None,
    flow: FlowsOption = None,
    agent: AgentsOption = None,
    label: LabelsOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    search: SearchOption = None,
    yes: YesOption = False,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Repeat runs that have ended: start a new run of each with the same parameters, and print its id.

    The new run has the labels and the version of the flow that the earlier one had, and `flowherd explain` says which
    run it repeats. With filters instead of RUN, asks before it repeats what matches; without --state that is what
    failed or was cancelled. Exits 1 if a run was not repeated. --json prints an object for one RUN, else an array of
    objects.
    """
    from flowherd.states import UNSUCCESSFUL, RunState

    client = open_public_client(api)
    filters = {
        "state": state,
        "flow": flow,
        "agent": agent,
        "label": label,
        "since": since,
        "until": until,
        "search": search,
    }
    found = chosen_runs(client.connection, run, UNSUCCESSFUL | {RunState.CANCELLED}, **filters)
    if not run:
        confirm(f"Repeat {counted(len(found), 'run')}?", found, yes)
        found.reverse()  # the oldest first
    repeats = client.retry_all(found, latest=latest)
    created = [{"id": repeat.id, "repeats": repeat.repeats} for repeat in repeats if repeat.id is not None]
    for one, repeat in zip(found, repeats, strict=True):
        if repeat.id is None:
            print_error(f"{one.name} ({one.id}) was not repeated: {repeat.problem}")
        elif not as_json:
            print_line(repeat.id)
    if len(created) == len(found) == 1 and not as_json:
        print_note(f"repeats {found[0].name} ({found[0].id}) of {found[0].flow}")
    if created and not client.connection.run_changes.remembers_repeats():
        print_warning(f"{client.address} does not remember which run a run repeats; this needs flowherd's own server")
    if as_json and (created or not is_one(run)):
        print_json(created[0] if is_one(run) else created)
    raise typer.Exit(exit_codes.OK if len(created) == len(found) else exit_codes.FAILED)

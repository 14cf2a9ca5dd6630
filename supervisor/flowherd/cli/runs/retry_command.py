"""`flowherd retry`: runs that have ended, once more."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, JsonOption
from flowherd.cli.printing import print_json, print_line, print_note, print_warning
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
from flowherd.errors import BackendUnavailable, FlowherdError

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
    created: list[dict[str, Any]] = []
    failed = 0
    for one in found:
        try:
            run_id = client.retry(one, latest=latest)
        except BackendUnavailable:
            raise
        except FlowherdError as error:
            if len(found) == 1:
                raise
            failed += 1
            print_warning(f"{one.name} ({one.id}) was not repeated: {error}")
            continue
        created.append({"id": run_id, "repeats": one.id})
        if not as_json:
            print_line(run_id)
            print_note(f"repeats {one.name} ({one.id}) of {one.flow}")
    if not client.connection.run_changes.remembers_repeats():
        print_warning(f"{client.address} does not remember which run a run repeats; this needs flowherd's own server")
    if as_json:
        print_json(created[0] if is_one(run) else created)
    if failed:
        raise CommandError(f"{failed} of {len(found)} runs were not repeated")

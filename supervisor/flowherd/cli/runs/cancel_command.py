"""`flowherd cancel`: asks for the end of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from flowherd.cli import exit_codes
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, JsonOption
from flowherd.cli.printing import print_json, print_line, print_note
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

if TYPE_CHECKING:
    from flowherd.client.run_changes import RunChange
    from flowherd.client.runs import RunView

_EXAMPLES = """
Examples:

  flowherd cancel 3f2a 9c01

  flowherd cancel --flow 'price-*' --state waiting

  flowherd ps -q --agent web-1 | flowherd cancel -
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("cancel", epilog=_EXAMPLES)(cancel)


def cancel(
    run: RunsArgument = None,
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
    """Cancel runs: the whole process tree of each is asked to end, and killed if it does not.

    With filters instead of RUN, asks before it cancels what matches; without --state that is what waits or runs. Exits
    1 if one of the runs was finished already. --json prints an object for one RUN, else an array of objects.
    """
    from flowherd.states import UNFINISHED

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
    found = chosen_runs(client.connection, run, UNFINISHED, **filters)
    if not run:
        confirm(f"Cancel {counted(len(found), 'run')}?", found, yes)
    changes = {change.id: change for change in client.cancel_all([one.id for one in found])}
    cancelled = [(one, changes[one.id]) for one in found]
    if as_json:
        answers = [{"id": one.id, "state": change.state, "was_finished": not change.done} for one, change in cancelled]
        print_json(answers[0] if is_one(run) else answers)
    else:
        for one, change in cancelled:
            _print(one, change)
    raise typer.Exit(exit_codes.OK if all(change.done for _, change in cancelled) else exit_codes.FAILED)


def _print(run: RunView, change: RunChange) -> None:
    if change.done:
        print_line(f"{run.name} ({run.id}): {change.state}")
    elif change.state is None:
        print_note(f"{run.name} ({run.id}) no longer exists")
    else:
        print_note(f"{run.name} ({run.id}) was finished already: {change.state}")

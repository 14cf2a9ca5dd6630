"""`flowherd cancel`: asks for the end of a run."""

from __future__ import annotations

import typer

from flowherd.cli import exit_codes
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonOption, RunArgument
from flowherd.cli.printing import print_json, print_line, print_note


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("cancel", epilog="Example:  flowherd cancel 3f2a")(cancel)


def cancel(run: RunArgument, api: ApiOption = None, as_json: JsonOption = False) -> None:
    """Cancel a run: its whole process tree is asked to end, and killed if it does not.

    Exits 1 if the run was finished already.
    """
    from flowherd.cli.runs.lookup import find_run

    client, _ = open_client(api)
    found = find_run(client, run)
    state = found.state if found.finished else client.runs.cancel(found.id)
    if as_json:
        print_json({"id": found.id, "state": state, "was_finished": found.finished})
    elif found.finished:
        print_note(f"{found.name} ({found.id}) was finished already: {state}")
    else:
        print_line(f"{found.name} ({found.id}): {state}")
    raise typer.Exit(exit_codes.FAILED if found.finished else exit_codes.OK)

"""`flowherd unregister`: a flow that is not to run any more."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import completion
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, FlowArgument, JsonOption
from flowherd.cli.printing import print_json, print_line, print_note
from flowherd.cli.runs.selection import counted


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("unregister", epilog="Example:  flowherd unregister nightly")(unregister)


def unregister(
    name: FlowArgument,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Project of the flow.", autocompletion=completion.projects)
    ] = None,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Unregister a flow: its schedule ends, its waiting runs are cancelled, and what has run stays.

    Runs that agents have go on. Registering the flow again makes its next version; `flowherd delete flow` also deletes
    what has run.
    """
    from flowherd.cli.here.kept_definitions import forget_definition

    client = open_public_client(api)
    done = client.unregister(name, project=project)
    flow = done.flow
    forget_definition(client.loaded.paths.home, flow.project, flow.name)
    if as_json:
        print_json(
            {
                "id": flow.id,
                "name": flow.name,
                "version": flow.version,
                "project": flow.project,
                "cancelled": done.cancelled,
                "running": list(done.going_on),
            }
        )
        return
    runs = "" if not done.cancelled else f"; {counted(done.cancelled, 'waiting run')} cancelled"
    print_line(f"unregistered {flow.name} of project {flow.project}{runs}")
    if done.going_on:
        some = " ".join(done.going_on[:3])
        print_note(f"{counted(len(done.going_on), 'run')} of it still being run: `flowherd cancel {some}`")

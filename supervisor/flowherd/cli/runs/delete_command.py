"""`flowherd delete run` and `flowherd delete flow`: what was stored of them is gone afterwards."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import completion, exit_codes
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
from flowherd.cli.runs.selection import RunsArgument, YesOption, ask, chosen_runs, confirm, counted, is_one

_EPILOG = "Examples:  flowherd delete run 3f2a   |   flowherd delete flow nightly --yes"
_RUN_EXAMPLES = """
Examples:

  flowherd delete run 3f2a 9c01

  flowherd delete run --flow hello --until 30d
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    delete = typer.Typer(
        help="Delete runs with their logs, or flows with all their runs. This cannot be undone.",
        epilog=_EPILOG,
        no_args_is_help=True,
    )
    delete.command("run", epilog=_RUN_EXAMPLES)(delete_run)
    delete.command("flow", epilog="Example:  flowherd delete flow nightly --yes")(delete_flow)
    app.add_typer(delete, name="delete")


def delete_run(
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
    """Delete runs with their logs and their history; asks first.

    With filters instead of RUN, deletes what matches; without --state that is what has ended. A run that an agent has
    is not deleted: cancel it first. Exits 1 if one of the runs was not deleted. --json prints an object for one RUN,
    else an array of objects.
    """
    from flowherd.states import FINISHED

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
    found = chosen_runs(client.connection, run, FINISHED, **filters)
    confirm(f"Delete {counted(len(found), 'run')} with the logs? This cannot be undone.", found, yes)
    changes = {change.id: change for change in client.delete_all([one.id for one in found])}
    kept = 0
    for one in found:
        change = changes[one.id]
        kept += not change.done
        if not change.done and change.state is not None:
            print_note(f"{one.name} ({one.id}) is {change.state} and was not deleted: `flowherd cancel` it first")
        elif not as_json:
            print_line(f"{one.name} ({one.id}): deleted")
    if as_json:
        answers = [{"id": one.id, "state": changes[one.id].state, "deleted": changes[one.id].done} for one in found]
        print_json(answers[0] if is_one(run) else answers)
    raise typer.Exit(exit_codes.FAILED if kept else exit_codes.OK)


def delete_flow(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The flow's name.", autocompletion=completion.flows)],
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="Project of the flow.", autocompletion=completion.projects)
    ] = None,
    yes: YesOption = False,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a flow, registered or not: all its versions, its runs and their logs; asks first.

    Refused while an agent has one of its runs. `flowherd unregister` keeps what has run.
    """
    from flowherd.cli.here.kept_definitions import forget_definition
    from flowherd.client.lookup import find_flow

    client = open_public_client(api)
    flow = find_flow(client.connection, name, project, unregistered=True)
    runs = client.connection.removal.count_runs(flow)
    if not yes:
        ask(
            f"Delete the flow {flow.name} of project {flow.project} with {counted(runs, 'run')} and the logs? "
            "This cannot be undone."
        )
    versions = client.delete_flow(name, project=flow.project)
    forget_definition(client.loaded.paths.home, flow.project, flow.name)
    if as_json:
        print_json({"name": flow.name, "project": flow.project, "versions": versions, "runs": runs})
    else:
        print_line(f"deleted {flow.name}: {counted(versions, 'version')}, {counted(runs, 'run')}")

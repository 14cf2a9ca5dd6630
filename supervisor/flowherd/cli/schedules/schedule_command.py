"""`flowherd schedule`: list schedules, pause and resume them, show their next times, start a run of one now."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from flowherd.cli import completion, exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.options import ApiOption, FlowArgument, JsonArrayOption, JsonOption, WideOption
from flowherd.cli.printing import print_json, print_line, print_note
from flowherd.cli.zone_option import ZoneOption

_LIST_EXAMPLE = "Example:  flowherd schedule ls --json | jq -r '.[] | select(.paused).flow'"
_PAUSE_EXAMPLES = """
Examples:

  flowherd schedule pause nightly digest

  flowherd schedule pause --all
"""
_RESUME_EXAMPLE = "Example:  flowherd schedule resume nightly"
_NEXT_EXAMPLES = """
Examples:

  flowherd schedule next nightly

  flowherd schedule next --cron '30 2 * * *' --timezone Europe/Berlin -n 400 --json
"""
_RUN_EXAMPLE = "Example:  flowherd schedule run-now nightly"

FlowsArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FLOW...]", help="Names of flows.", autocompletion=completion.flows),
]
ProjectOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Project of the flow.", autocompletion=completion.projects)
]
AllOption = Annotated[bool, typer.Option("--all", help="All schedules; with --project those of the project.")]


def add_to(app: typer.Typer) -> None:
    """Add the command and its own commands to the program."""
    text = "List the schedules of flows, pause and resume them, show their next times, or start a run of one now."
    family = typer.Typer(help=text, no_args_is_help=True)
    family.command("ls", epilog=_LIST_EXAMPLE)(ls)
    family.command("pause", epilog=_PAUSE_EXAMPLES)(pause)
    family.command("resume", epilog=_RESUME_EXAMPLE)(resume)
    family.command("next", epilog=_NEXT_EXAMPLES)(show_next)
    family.command("run-now", epilog=_RUN_EXAMPLE)(run_now)
    app.add_typer(family, name="schedule")


def ls(
    project: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only flows of this project.", autocompletion=completion.projects),
    ] = None,
    wide: WideOption = False,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """List the schedules of all flows, the next to fire first, paused ones last."""
    from flowherd.cli.schedules.schedule_list import list_schedules

    list_schedules(api, project=project, wide=wide, as_json=as_json)


def pause(
    flows: FlowsArgument = None,
    everything: AllOption = False,
    project: ProjectOption = None,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """Switch schedules off: runs that they have created and that have not started are deleted."""
    _switch(flows, everything, project, api, as_json, on=False)


def resume(
    flows: FlowsArgument = None,
    everything: AllOption = False,
    project: ProjectOption = None,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """Switch schedules on again: times that passed meanwhile are not made up for."""
    _switch(flows, everything, project, api, as_json, on=True)


def _switch(
    flows: list[str] | None, everything: bool, project: str | None, api: str | None, as_json: bool, *, on: bool
) -> None:
    from flowherd.cli.schedules.switch_schedules import chosen_schedules, switch_schedule

    if bool(flows) == everything:
        raise CommandError("name the flows, or give --all", exit_codes.USAGE)
    from flowherd.cli.open_client import open_client

    client, _ = open_client(api)
    found = chosen_schedules(client, flows or None, project)
    results: list[dict[str, Any]] = []
    for schedule in found:
        sentence, fields = switch_schedule(client, schedule, on=on)
        results.append(fields)
        if not as_json:
            print_line(sentence)
    if as_json:
        print_json(results)
    elif not found:
        print_note("no flow has a schedule")


def show_next(
    flow: Annotated[
        str | None, typer.Argument(metavar="[FLOW]", help="The flow's name.", autocompletion=completion.flows)
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=1, max=1000, metavar="N", help="Number of times.")] = 5,
    cron: Annotated[
        str | None, typer.Option(metavar="EXPR", help="In place of a flow: a cron expression; asks no server.")
    ] = None,
    zone: ZoneOption = None,
    project: ProjectOption = None,
    wide: WideOption = False,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """Show when a schedule fires next, also a paused one; or when a cron expression would."""
    from flowherd.cli.schedules.next_times import next_of_cron, next_of_flow, show_times

    if (flow is None) == (cron is None):
        raise CommandError("name a flow, or give an expression with --cron", exit_codes.USAGE)
    if zone is not None and cron is None:
        raise CommandError("--timezone is for --cron; a flow's schedule has a time zone", exit_codes.USAGE)
    if cron is not None:
        show_times(next_of_cron(cron, zone, count), wide=wide, as_json=as_json)
    else:
        show_times(next_of_flow(api, str(flow), project, count), wide=wide, as_json=as_json)


def run_now(
    flow: FlowArgument,
    clock: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Which clock, if the schedule has several (default: 1).")
    ] = None,
    project: ProjectOption = None,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run now, with the parameters and labels that the schedule gives its runs, and print its id."""
    from flowherd.cli.schedules.run_now import run_now as start

    run_id = start(api, flow, project, clock)
    if as_json:
        print_json({"id": run_id})
    else:
        print_line(run_id)

"""`flowherd wait`: waits until runs have ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.format_times import span
from flowherd.cli.open_client import open_public_client
from flowherd.cli.options import ApiOption, JsonLinesOption
from flowherd.cli.printing import json_line, print_line, print_note, print_warning
from flowherd.cli.runs.selection import RunsArgument, chosen_runs

if TYPE_CHECKING:
    from flowherd.client.runs import RunSummary

_EXAMPLES = """
Examples:

  flowherd wait 3f2a 9c01

  flowherd wait --timeout 10m $(flowherd run nightly)
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("wait", epilog=_EXAMPLES)(wait)


def wait(
    run: RunsArgument = None,
    timeout: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop waiting after this time and exit 6; the runs go on.")
    ] = None,
    api: ApiOption = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Wait until runs have ended, and print how each ended; one that has ended already counts too.

    Exits 0 if all succeeded, 1 if one failed, 5 if one was cancelled and none failed, 6 if --timeout was over first.
    Ctrl-C ends the waiting, not the runs.
    """
    timeout_s = parse_options.duration_s(timeout, "--timeout") if timeout is not None else None
    client = open_public_client(api)
    ids = [one.id for one in chosen_runs(client.connection, run)]
    ended: list[RunSummary] = []
    for end in client.as_completed(ids, timeout_s, on_silence=lambda error: print_warning(f"{error}; waiting for it")):
        ended.append(end)
        if as_json:
            print(json_line({"id": end.id, "name": end.name, "state": end.state, "message": end.message}), flush=True)
        else:
            print_line(f"{end.name} ({end.id}): {end.state}" + (f": {end.message}" if end.message else ""))
    if len(ended) < len(ids):
        print_note(f"{len(ids) - len(ended)} of {len(ids)} runs have not ended after {span(timeout_s or 0.0)}")
    raise typer.Exit(_code(ended, len(ids)))


def _code(ended: Sequence[RunSummary], wanted: int) -> int:
    if len(ended) < wanted:
        return exit_codes.STILL_GOING
    if all(run.successful for run in ended):
        return exit_codes.OK
    unsuccessful = [run for run in ended if not run.successful]
    return exit_codes.CANCELLED if all(run.state == "Cancelled" for run in unsuccessful) else exit_codes.FAILED

"""`flowherd flows`: the registered flows, those in trouble first."""

from __future__ import annotations

from datetime import datetime, timezone
from fnmatch import fnmatchcase
from typing import Annotated

import typer

from flowherd.cli import completion
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonArrayOption, WideOption
from flowherd.cli.printing import is_terminal, print_json, print_note
from flowherd.cli.tables import show_table, sorted_by


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    epilog = "Example:  flowherd flows --json | jq -r '.[] | select(.failures_in_a_row > 2).name'"
    app.command("flows", epilog=epilog)(flows)


def flows(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", help="Only flows with this name; * stands for anything.", autocompletion=completion.flows
        ),
    ] = None,
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only flows of this project.")] = None,
    sort: Annotated[
        str | None, typer.Option("--sort", metavar="COLUMN", help="Sort by this column; -COLUMN: the greatest first.")
    ] = None,
    wide: WideOption = False,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """List the registered flows: how the last runs went, the next run, the schedule; those in trouble first."""
    from flowherd.cli.flows.flow_rows import COLUMNS, FlowRow, json_fields

    client, _ = open_client(api)
    now = datetime.now(timezone.utc)
    found = client.flow_list.all(project=project)
    rows = [FlowRow(flow, now) for flow in found if pattern is None or fnmatchcase(flow.name, pattern)]
    rows = sorted_by(COLUMNS, sort, sorted(rows, key=FlowRow.order))
    if as_json:
        print_json([json_fields(row) for row in rows])
    elif rows or not is_terminal():
        show_table(COLUMNS, rows, wide=wide)
    else:
        print_note("no flow is called so" if pattern else "no flow is registered; see `flowherd register --help`")

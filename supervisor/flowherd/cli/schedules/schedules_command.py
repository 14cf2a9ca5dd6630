"""`flowherd schedules`: the same as `flowherd schedule ls`."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli.options import ApiOption, JsonArrayOption, WideOption


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("schedules", epilog="Example:  flowherd schedules --json | jq -r '.[] | select(.paused).flow'")(
        schedules
    )


def schedules(
    project: Annotated[str | None, typer.Option(metavar="NAME", help="Only schedules of this project.")] = None,
    wide: WideOption = False,
    api: ApiOption = None,
    as_json: JsonArrayOption = False,
) -> None:
    """List the schedules of all flows, the next to fire first, paused ones last; `schedule` changes them."""
    from flowherd.cli.schedules.schedule_list import list_schedules

    list_schedules(api, project=project, wide=wide, as_json=as_json)

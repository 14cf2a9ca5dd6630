"""The option for the time zone of a schedule, for all commands that take one."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import completion

ZoneOption = Annotated[
    str | None,
    typer.Option(
        "--timezone",
        metavar="ZONE",
        help="Time zone of the cron expression (default: this host's): Europe/Berlin.",
        autocompletion=completion.timezones,
    ),
]

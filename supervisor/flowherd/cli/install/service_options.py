"""The options that the subcommands of `flowherd install` share."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli.options import OnStopChoice

ServiceOption = Annotated[str, typer.Option("--service", metavar="NAME", help="Name of the program or unit.")]
ServiceUserOption = Annotated[str | None, typer.Option("--user", metavar="NAME", help="Run the service as this user.")]
ServiceEnvOption = Annotated[
    list[str] | None,
    typer.Option("-e", "--env", metavar="K=V", help="Variable of the service, not for secrets; repeatable."),
]
EnvFileOption = Annotated[str | None, typer.Option(metavar="FILE", help="A file of variables; systemd only.")]
ServiceOnStopOption = Annotated[OnStopChoice, typer.Option(help="What a stop of the service does to the runs.")]
TokenFileOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="The file of mode 0600 with the API token, or with the API key of a --pool."),
]
AuthStringFileOption = Annotated[
    str | None, typer.Option(metavar="FILE", help="The file of mode 0600 with NAME:PASSWORD for a --pool.")
]
WriteTokenOption = Annotated[
    bool,
    typer.Option("--write-token-file", help="Write the files: secrets from the settings, or from a prompt."),
]

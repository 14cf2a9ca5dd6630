"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import completion

#: The option of every client command.
ApiOption = Annotated[
    str | None,
    typer.Option("--api", metavar="URL", help="API address (default: the settings', else the running embedded server)"),
]
RunArgument = Annotated[
    str,
    typer.Argument(metavar="RUN", help="Its id, the beginning of it, or its name.", autocompletion=completion.runs),
]
FlowArgument = Annotated[str, typer.Argument(metavar="NAME", help="The flow's name.", autocompletion=completion.flows)]

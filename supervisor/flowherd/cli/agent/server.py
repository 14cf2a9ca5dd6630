"""`flowherd server`: the embedded backend in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import exit_codes
from flowherd.cli.output import warn

_EXAMPLES = """
Examples:

  flowherd server --port 0

  FLOWHERD__SERVER__TOKEN=... flowherd server --host 0.0.0.0
"""


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("server", epilog=_EXAMPLES)(server)


def server(
    host: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Listen here; any but loopback needs a token (default: 127.0.0.1)"),
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="PORT", help="0 picks a free one (default: 4200)")] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where its database lies (default: server in the home)")
    ] = None,
) -> None:
    """Run the embedded server: GraphQL over HTTP on SQLite, with a status page. Prints its address when it is ready."""
    from flowherd.config import load_settings
    from flowherd_server.__main__ import BAD_CONFIGURATION, main

    flags = {"server.bind": "--host", "server.bind_port": "--port", "server.data_dir": "--data-dir"}
    given = {"server.bind": host, "server.bind_port": port, "server.data_dir": data_dir}
    loaded = load_settings(given, argument_names=flags)
    for warning in loaded.warnings:
        warn(warning)
    settings = loaded.settings.server
    arguments = ["--host", settings.bind, "--port", str(settings.bind_port), "--data-dir", str(loaded.paths.data_dir)]
    code = main(arguments)
    raise typer.Exit(exit_codes.USAGE if code == BAD_CONFIGURATION else code)

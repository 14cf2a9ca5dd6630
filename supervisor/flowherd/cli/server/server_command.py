"""`flowherd server`: the embedded server in the foreground."""

from __future__ import annotations

import os

import typer

from flowherd.cli import exit_codes
from flowherd.cli.options import DataDirOption, HostOption, PortOption, settings_from
from flowherd.cli.printing import print_warning

_EXAMPLES = """
Examples:

  flowherd server --port 0

  FLOWHERD__SERVER__TOKEN=... flowherd server --host 0.0.0.0
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("server", epilog=_EXAMPLES)(server)


def server(host: HostOption = None, port: PortOption = None, data_dir: DataDirOption = None) -> None:
    """Run the embedded server: GraphQL over HTTP on SQLite, with a status page. Prints its address when it is ready."""
    from flowherd.cli.server.server_program import server_argv, server_environment

    loaded = settings_from(host=host, port=port, data_dir=data_dir)
    for warning in loaded.warnings:
        print_warning(warning)
    argv = server_argv(loaded, "--bad-configuration-exit-code", str(exit_codes.USAGE))
    # In place of this process, so that pid, signals, output and exit code are the server's own.
    os.execve(argv[0], argv, server_environment())

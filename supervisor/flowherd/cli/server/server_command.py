"""`flowherd server`: the embedded server in the foreground, and what can be done with its database."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flowherd.cli import exit_codes
from flowherd.cli.agent.isolation_tokens import isolates, make_server_token
from flowherd.cli.failures import CommandError
from flowherd.cli.options import DataDirOption, HostOption, JsonOption, PortOption, settings_from
from flowherd.cli.printing import print_note, print_warning

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd server --port 0

  flowherd server --new-token

  FLOWHERD__SERVER__TOKEN=... flowherd server --host 0.0.0.0

  flowherd server backup /var/backups/flowherd.sqlite
"""
_BACKUP_EXAMPLE = "Example:  flowherd server backup --force /var/backups/flowherd.sqlite"
_CHECK_EXAMPLE = "Example:  flowherd server check --json | jq .sizes"


def add_to(app: typer.Typer) -> None:
    """Add the command and its own commands to the program."""
    server_app = typer.Typer(invoke_without_command=True, rich_markup_mode="rich")
    server_app.callback(epilog=_EXAMPLES)(server)
    server_app.command("backup", epilog=_BACKUP_EXAMPLE)(backup)
    server_app.command("check", epilog=_CHECK_EXAMPLE)(check)
    app.add_typer(server_app, name="server")


def server(
    context: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    data_dir: DataDirOption = None,
    new_token: Annotated[
        bool,
        typer.Option("--new-token", help="Make a token that clients must send, in a file that your own ones find."),
    ] = False,
) -> None:
    """Run the embedded server: GraphQL over HTTP on SQLite, with pages for a browser. Prints its address when it is
    ready.

    A token that exists stays: to make another, remove its file. See docs/security.md.
    """
    if context.invoked_subcommand is not None:
        if host is not None or port is not None or new_token:
            text = f"--host, --port and --new-token are for the server itself, not for {context.invoked_subcommand}"
            raise CommandError(text, exit_codes.USAGE)
        return
    loaded = settings_from(host=host, port=port, data_dir=data_dir)
    if new_token:
        _make_token(loaded)
    elif isolates(loaded.settings) and not loaded.settings.server.token:
        make_server_token(loaded)
        loaded = settings_from(host=host, port=port, data_dir=data_dir)
    _become_server(loaded)


def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File to make; only its owner may read it.")],
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Copy the server's database to a file, and check the copy. The server may run meanwhile."""
    _become_server(_settings(context, data_dir), "backup", str(file.absolute()), *(["--force"] if force else []))


def check(context: typer.Context, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Check the server's database: its structure, references, counters and sizes. The server may run meanwhile.

    Exits 1 if something is wrong.
    """
    _become_server(_settings(context, data_dir), "check", *(["--json"] if as_json else []))


def _settings(context: typer.Context, data_dir: str | None) -> LoadedSettings:
    """Return the settings with the data directory of this command, of `flowherd server`, or of the running server."""
    from flowherd.backends.discovery import data_dir_of_running_server

    before = context.parent.params.get("data_dir") if context.parent is not None else None
    loaded = settings_from(data_dir=data_dir or before)
    running = None if data_dir or before else data_dir_of_running_server(loaded.paths.server_file)
    return settings_from(data_dir=str(running)) if running is not None else loaded


def _become_server(loaded: LoadedSettings, *command: str) -> NoReturn:
    """Go on as the server's program, in place of this process: pid, signals, output and exit code are its own."""
    from flowherd.cli.server.server_program import server_argv, server_environment
    from flowherd.signals import block_request_signals

    for warning in loaded.warnings:
        print_warning(warning)
    if not command:
        block_request_signals()  # until the server can act on them
    argv = server_argv(loaded, "--bad-configuration-exit-code", str(exit_codes.USAGE), *command)
    os.execve(argv[0], argv, server_environment())


def _make_token(loaded: LoadedSettings) -> None:
    from flowherd.config.token_files import SERVER_TOKEN_FILE, make_token

    path, origin = loaded.paths.token_file, loaded.origins["server.token"]
    if loaded.settings.server.token and origin.path != path:
        raise CommandError(f"server.token is set already (from {origin}), so no new token was made", exit_codes.USAGE)
    try:
        made = make_token(loaded.paths.home, SERVER_TOKEN_FILE)
    except OSError as error:
        raise CommandError(f"--new-token: {path} cannot be written: {error}") from error
    if made:
        print_note(f"made a token in {path} (mode 0600): clients must send it; your own commands and agents find it")
    else:
        print_note(f"kept the token in {path}; to make another, remove this file and start server and agents again")

"""`flowherd top`: the runs, live, on a whole terminal."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, NameOption, StateDirOption, settings_from

if TYPE_CHECKING:
    from flowherd.cli.top.sources import Source

_EXAMPLES = """
Examples:

  flowherd top

  flowherd top --interval 5s --no-mouse        # over a slow line

  flowherd top --here                          # only what the agents of this host know
"""
#: Shortest time between two looks, seconds.
_MIN_INTERVAL_S = 0.2


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("top", epilog=_EXAMPLES)(top)


def top(
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Time between two looks, such as 5s.")
    ] = "1s",
    mouse: Annotated[
        bool, typer.Option("--mouse/--no-mouse", help="Use the mouse, which the terminal then lacks.")
    ] = True,
    here: Annotated[
        bool, typer.Option("--here", help="Ask the agents of this host over their sockets, and no server.")
    ] = False,
    name: NameOption = None,
    state_dir: StateDirOption = None,
    api: ApiOption = None,
) -> None:
    """Show the runs live on the whole terminal: what needs attention, what runs, logs, agents; cancel, run again.

    It asks the server, as the other commands do. For a Prefect 3 pool, with --here, -n or --state-dir, and if no server
    is known, it asks the agents of this host over their sockets, and shows what they know.
    """
    interval_s = max(_MIN_INTERVAL_S, parse_options.duration_s(interval, "--interval"))
    _check_terminal()
    source = _source(name, state_dir, api, here)
    from flowherd.cli.top.app import run_app

    code = run_app(source, interval_s, mouse=mouse)
    raise typer.Exit(code)


def _check_terminal() -> None:
    """Raise CommandError if there is no terminal that can be drawn on."""
    is_dumb = os.environ.get("TERM", "dumb") in ("", "dumb", "unknown")
    if is_dumb or not (sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()):
        why = "this terminal cannot be drawn on (TERM)" if is_dumb else "it needs a terminal at both ends"
        raise CommandError(
            f"`flowherd top` draws on a whole terminal, and {why}; use `flowherd ps --watch`", exit_codes.USAGE
        )


def _source(name: str | None, state_dir: str | None, api: str | None, here: bool) -> Source:
    from flowherd.cli.top.agent_requests import agents_here
    from flowherd.cli.top.agents_source import AgentsSource

    loaded = settings_from(name=name, state_dir=state_dir, api=api)
    only = loaded.paths.state_dir if name or state_dir else None
    if here or only is not None or (loaded.settings.uses_work_pool and not api):
        return AgentsSource(loaded, only)
    try:
        client, loaded = open_client(api)
    except CommandError:
        if api or not agents_here(loaded):
            raise
        return AgentsSource(loaded)
    from flowherd.cli.top.server_source import ServerSource

    return ServerSource(client, loaded)

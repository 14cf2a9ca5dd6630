"""`flowherd poke`: agents look for runs at once instead of at their next poll."""

from __future__ import annotations

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.open_client import open_client
from flowherd.cli.options import ApiOption, JsonOption, RunningAgentOption, settings_from
from flowherd.cli.printing import print_json, print_line


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("poke", epilog="Example:  flowherd poke --agent-address http://127.0.0.1:8080")(poke)


def poke(agent_address: RunningAgentOption = None, api: ApiOption = None, as_json: JsonOption = False) -> None:
    """Wake agents so that they look for runs now: all agents of a flowherd server, or one by its address.

    Exits 1 if no agent was woken.
    """
    from flowherd.cli.agent.agent_client import AgentClient

    if agent_address is not None:
        AgentClient.of_settings(settings_from(), agent_address).poke()
        woken = 1
    else:
        client, _ = open_client(api)
        if not client.is_flowherd_server():
            raise CommandError(f"{client.address} is not a flowherd server and cannot wake agents; use --agent-address")
        woken = client.agents.wake()
    if as_json:
        print_json({"agents": woken})
    else:
        print_line(f"woke {woken} agent{'' if woken == 1 else 's'}")
    raise typer.Exit(exit_codes.OK if woken else exit_codes.FAILED)

"""`flowherd resume`: a paused agent claims runs again."""

from __future__ import annotations

import typer

from flowherd.cli.options import JsonOption, NameOption, RunningAgentOption, StateDirOption, settings_from


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("resume", epilog="Example:  flowherd resume -n builder")(resume)


def resume(
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: RunningAgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a paused agent claim runs again."""
    from flowherd.cli.agent.agent_client import AgentClient, print_facts

    agent = AgentClient.of_settings(settings_from(name=name, state_dir=state_dir), agent_address)
    facts = agent.post("resume")
    print_facts(facts, f"{facts['agent']} claims runs again", as_json=as_json)

"""`flowherd pause`: an agent claims no more runs until `flowherd resume`."""

from __future__ import annotations

import typer

from flowherd.cli.options import JsonOption, NameOption, RunningAgentOption, StateDirOption, settings_from


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("pause", epilog="Example:  flowherd pause -n builder")(pause)


def pause(
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: RunningAgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the agent stop claiming runs; its present runs go on. Lasts until `resume`, also across restarts."""
    from flowherd.cli.agent.agent_client import AgentClient, print_facts, running_runs

    agent = AgentClient.of_settings(settings_from(name=name, state_dir=state_dir), agent_address)
    facts = agent.post("pause")
    print_facts(facts, f"{facts['agent']} is paused; {running_runs(facts)} still running", as_json=as_json)

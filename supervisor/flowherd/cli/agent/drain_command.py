"""`flowherd drain`: an agent claims no more runs and ends when its runs have ended."""

from __future__ import annotations

from typing import Annotated

import typer

from flowherd.cli import parse_options
from flowherd.cli.options import JsonOption, NameOption, RunningAgentOption, StateDirOption, settings_from


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("drain", epilog="Example:  flowherd drain --deadline 10m --wait")(drain)


def drain(
    deadline: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long the runs may still take: 10m (default: from the settings)"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the agent has ended.")] = False,
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: RunningAgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the agent stop claiming runs and end when its present runs have ended; the deadline ends the rest."""
    from flowherd.cli.agent.agent_client import AgentClient, print_facts, running_runs

    given = {} if deadline is None else {"deadline_s": parse_options.duration_s(deadline, "--deadline")}
    agent = AgentClient.of_settings(settings_from(name=name, state_dir=state_dir), agent_address)
    facts = agent.post("drain", **given)
    if wait:
        agent.wait_for_end(facts)
        text = f"{facts['agent']} was drained and has ended"
    else:
        text = f"{facts['agent']} is draining: {running_runs(facts)} still running; then it ends"
    print_facts(facts, text, as_json=as_json)

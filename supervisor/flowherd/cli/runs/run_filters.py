"""The options by which several commands choose runs: --state, --flow, --agent, --label, --since, --until, --search."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timezone
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from flowherd.cli import completion, exit_codes, parse_options
from flowherd.cli.failures import CommandError

if TYPE_CHECKING:
    from flowherd.client.agents import AgentView
    from flowherd.client.run_filter import RunFilter

StatesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--state",
        metavar="STATE",
        help="Runs in this state, such as Failed, or in one of running, waiting, ended; repeatable.",
        autocompletion=completion.states,
    ),
]
FlowsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--flow",
        metavar="NAME",
        help="Runs of this flow; * stands for anything; repeatable.",
        autocompletion=completion.flows,
    ),
]
AgentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--agent",
        metavar="NAME",
        help="Runs that this agent has claimed; repeatable.",
        autocompletion=completion.agents,
    ),
]
LabelsOption = Annotated[
    list[str] | None, typer.Option("--label", metavar="LABEL", help="Runs with this label; repeatable: with all.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Runs that started, or are due, at or after this time, or 2h ago."),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Runs that started, or are due, before this time, or 2h ago."),
]
SearchOption = Annotated[
    str | None,
    typer.Option(
        "--search", metavar="TEXT", help="Runs with this text in name, flow or message, or at the id's start."
    ),
]


def states_named(names: Sequence[str] | None) -> list[str]:
    """Return the states that --state names, of which some names stand for several. Raises CommandError."""
    from flowherd.states import FINISHED, TAKEN, UNSUCCESSFUL, WAITING, RunState

    groups = {
        "running": TAKEN,
        "waiting": WAITING,
        "ended": FINISHED,
        "bad": UNSUCCESSFUL,
    }
    known = {state.value.lower(): [state] for state in RunState}
    found: list[str] = []
    for name in (part.strip() for given in names or () for part in given.split(",")):
        # "Running" is a state, "running" a group; a state written otherwise is still that state.
        states: Collection[RunState] = groups[name] if name in groups else known.get(name.lower(), ())
        if not states:
            words = [state.value for state in RunState] + list(groups)
            close = get_close_matches(name, words, n=1) or get_close_matches(name.capitalize(), words, n=1)
            hint = f"did you mean {close[0]}?" if close else "states are " + ", ".join(words)
            raise CommandError(f"--state {name!r} is no state; {hint}", exit_codes.USAGE)
        found += [state.value for state in states]
    return found


def run_filter(
    agents: Sequence[AgentView],
    *,
    states: Sequence[str] | None = None,
    flow: Sequence[str] | None = None,
    agent: Sequence[str] | None = None,
    label: Sequence[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    search: str | None = None,
) -> RunFilter:
    """Return the filter that the options describe; `states` are values of RunState.

    `agents` are those of the server. Raises CommandError for a value that cannot be read, and for an unknown agent.
    """
    from flowherd.client.run_filter import RunFilter

    now = datetime.now(timezone.utc)
    return RunFilter(
        states=list(states or ()),
        flows=list(flow or ()),
        agent_ids=[agent_id for name in agent or () for agent_id in _ids(name, agents)],
        labels=list(label or ()),
        since=None if since is None else parse_options.moment_or_ago(since, "--since", now),
        until=None if until is None else parse_options.moment_or_ago(until, "--until", now),
        search=search or "",
    )


def _ids(name: str, agents: Sequence[AgentView]) -> list[str]:
    found = [agent.id for agent in agents if name in (agent.name, agent.id)]
    if not found:
        known = ", ".join(sorted({agent.name for agent in agents})) or "none"
        raise CommandError(f"there is no agent {name!r} at the server; it knows {known}", exit_codes.NOT_FOUND)
    return found

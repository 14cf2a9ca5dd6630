"""`flowherd pause`, `resume`, `drain`, `restart`: what a person asks of an agent that runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes, parse_options
from flowherd.cli.failures import CommandError
from flowherd.cli.output import print_json, say

if TYPE_CHECKING:
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.config import LoadedSettings

#: An agent that is asked to restart answers again within this time: its last words, the server beside it, its imports.
_BACK_S = 90.0
_POLL_S = 0.1
_NAME_FLAGS = {"cloud.agent.name": "--name", "agent.state_dir": "--state-dir"}

NameOption = Annotated[str | None, typer.Option("-n", "--name", help="The agent's name (default: the settings')")]
StateDirOption = Annotated[str | None, typer.Option(metavar="DIR", help="The agent's state directory.")]
AddressOption = Annotated[
    str | None, typer.Option(metavar="URL", help="The agent that was started with this --agent-address.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print an object.")]


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("pause", epilog="Example:  flowherd pause -n builder")(pause)
    app.command("resume", epilog="Example:  flowherd resume -n builder")(resume)
    app.command("drain", epilog="Example:  flowherd drain --deadline 10m --wait")(drain)
    app.command("restart", epilog="Example:  flowherd restart -n builder")(restart)


def pause(
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the agent claim no more runs; those that are going go on. Holds until `resume`, over restarts too."""
    agent, _ = _agent(name, state_dir, agent_address)
    facts = agent.post("pause")
    _tell(facts, f"{facts['agent']} is paused; {_runs(facts)} going on", as_json)


def resume(
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have a paused agent claim runs again."""
    agent, _ = _agent(name, state_dir, agent_address)
    facts = agent.post("resume")
    _tell(facts, f"{facts['agent']} claims runs again", as_json)


def drain(
    deadline: Annotated[
        str | None, typer.Option(metavar="TIME", help="Runs may go on so long: 10m (default: the settings')")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the agent has ended.")] = False,
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the agent claim no more runs and end when those that are going have; at the deadline they are ended."""
    given = {} if deadline is None else {"deadline_s": parse_options.duration_s(deadline, "--deadline")}
    agent, _ = _agent(name, state_dir, agent_address)
    facts = agent.post("drain", **given)
    while wait and agent.is_there(facts["instance"]):
        time.sleep(_POLL_S)
    done = "has ended" if wait else "ends when they have ended"
    _tell(facts, f"{facts['agent']} is draining: {_runs(facts)} going on; it {done}", as_json)


def restart(
    program: Annotated[str, typer.Option(metavar="NAME", help="Its name in supervisord.")] = "flowherd",
    supervisor_url: Annotated[
        str | None, typer.Option(metavar="URL", help="supervisord: unix:///path or http://HOST:PORT.")
    ] = None,
    supervisor_conf: Annotated[
        str | None, typer.Option(metavar="FILE", help="supervisord's configuration, for its address.")
    ] = None,
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start the agent again, with the code and the settings of now; its runs go on meanwhile.

    Where supervisord runs the agent, supervisord restarts it; else the agent does so itself and keeps its pid.
    """
    from flowherd.supervisord.rpc import SupervisordError, restart_program

    agent, loaded = _agent(name, state_dir, agent_address)
    before = agent.get("agent")
    access = _supervised_by(before["pid"], program, supervisor_url, supervisor_conf) if not agent_address else None
    if access is None:
        agent.post("restart")
    else:
        # Whatever its settings say of a stop, this one is a restart.
        agent.post("restart", by="supervisor")
        try:
            restart_program(access, program)
        except SupervisordError as error:
            raise CommandError(str(error)) from error
    facts = _back(agent, before["instance"], loaded)
    how = f"by supervisord at {access.url}" if access is not None else "in place"
    _tell(facts, f"{facts['agent']} was restarted {how}: pid {facts['pid']}, {_runs(facts)} going on", as_json)


def _agent(name: str | None, state_dir: str | None, address: str | None) -> tuple[AgentClient, LoadedSettings]:
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.config import load_settings

    given = {"cloud.agent.name": name, "agent.state_dir": state_dir}
    loaded = load_settings(given, argument_names=_NAME_FLAGS)
    if address is not None:
        return AgentClient.at_address(address, loaded.settings.agent.api_token), loaded
    return AgentClient.in_directory(loaded.paths.state_dir, loaded.settings.cloud.agent.name), loaded


def _supervised_by(pid: int, program: str, url: str | None, configuration: str | None) -> Any:
    """How to reach the supervisord whose `program` is the process `pid`; None when there is none.

    Raises CommandError when one was named on the command line and it does not run the agent.
    """
    from flowherd.supervisord.rpc import SupervisordError, find_access, program_state

    named = bool(url or configuration)
    try:
        access = find_access(url, configuration)
        found = program_state(access, program) if access is not None else None
    except SupervisordError as error:
        if named:
            raise CommandError(str(error), exit_codes.UNREACHABLE) from error
        return None
    if found is not None and found.pid == pid:
        return access
    if named:
        raise CommandError(f"supervisord's program {program!r} is not the agent with pid {pid}", exit_codes.NOT_FOUND)
    return None


def _back(agent: AgentClient, instance: str, loaded: LoadedSettings) -> dict[str, Any]:
    deadline_s = time.monotonic() + _BACK_S
    while time.monotonic() < deadline_s:
        facts = agent.look()
        if facts is not None and facts["instance"] != instance:
            return facts
        time.sleep(_POLL_S)
    raise CommandError(
        f"the agent has not come back within {_BACK_S:.0f} s; its log says why, its runs go on and are adopted by the "
        f"next agent on {loaded.paths.state_dir}"
    )


def _runs(facts: dict[str, Any]) -> str:
    count = facts["runs"]
    return "1 run is" if count == 1 else f"{count or 'no'} runs are"


def _tell(facts: dict[str, Any], words: str, as_json: bool) -> None:
    if as_json:
        print_json(facts)
    else:
        say(words)

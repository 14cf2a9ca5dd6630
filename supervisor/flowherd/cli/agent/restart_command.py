"""`flowherd restart`: an agent is started again while its runs go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.options import (
    JsonOption,
    NameOption,
    ProgramOption,
    RunningAgentOption,
    StateDirOption,
    SupervisorConfOption,
    SupervisorUrlOption,
    settings_from,
)

if TYPE_CHECKING:
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.config import LoadedSettings
    from flowherd.supervisord.rpc import Access

#: How long a restart may take: the last deliveries, the server beside the agent, the agent's imports.
_RESTART_S = 90.0
_POLL_S = 0.1


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("restart", epilog="Example:  flowherd restart -n builder")(restart)


def restart(
    program: ProgramOption = "flowherd",
    supervisor_url: SupervisorUrlOption = None,
    supervisor_conf: SupervisorConfOption = None,
    name: NameOption = None,
    state_dir: StateDirOption = None,
    agent_address: RunningAgentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Restart the agent with the present code and settings; its runs go on meanwhile.

    If supervisord runs the agent, supervisord restarts it; else the agent restarts itself and keeps its pid.
    """
    from flowherd.cli.agent.agent_client import AgentClient, print_facts, running_runs
    from flowherd.supervisord.rpc import SupervisordError, restart_program

    loaded = settings_from(name=name, state_dir=state_dir)
    agent = AgentClient.of_settings(loaded, agent_address)
    before = agent.describe()
    access = _supervised_by(before["pid"], program, supervisor_url, supervisor_conf) if not agent_address else None
    if access is None:
        agent.post("restart")
    else:
        # The agent must leave its runs alone at this stop, whatever on_stop says.
        agent.post("restart", by="supervisor")
        try:
            restart_program(access, program)
        except SupervisordError as error:
            raise CommandError(str(error)) from error
    facts = _wait_for_next_instance(agent, before["instance"], loaded)
    how = f"by supervisord at {access.url}" if access is not None else "in place"
    text = f"{facts['agent']} was restarted {how}: pid {facts['pid']}, {running_runs(facts)} still running"
    print_facts(facts, text, as_json=as_json)


def _supervised_by(pid: int, program: str, url: str | None, configuration: str | None) -> Access | None:
    """Return how to reach the supervisord that runs process `pid` as `program`; None if there is none.

    Raises CommandError if one was named on the command line and it does not run the agent.
    """
    from flowherd.cli.agent.ask_supervisord import ask_supervisord

    found = ask_supervisord(program, url, configuration)
    if found is not None and found[1].pid == pid:
        return found[0]
    if url or configuration:
        raise CommandError(
            f"supervisord's program {program!r} is not the agent, which has pid {pid}", exit_codes.NOT_FOUND
        )
    return None


def _wait_for_next_instance(agent: AgentClient, instance: str, loaded: LoadedSettings) -> dict[str, Any]:
    deadline_s = time.monotonic() + _RESTART_S
    while time.monotonic() < deadline_s:
        facts = agent.look()
        if facts is not None and facts["instance"] != instance:
            return facts
        time.sleep(_POLL_S)
    raise CommandError(
        f"the agent has not answered again within {_RESTART_S:.0f} s; its log says why. Its runs go on, and the next "
        f"agent on {loaded.paths.state_dir} adopts them"
    )

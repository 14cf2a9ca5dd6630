"""`flowherd poke` and `flowherd status`: what a person does with agents."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.api_address import open_client
from flowherd.cli.failures import CommandError
from flowherd.cli.options import ApiOption
from flowherd.cli.output import note, print_json, print_table, say
from flowherd.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

_STATUS_EXAMPLES = """
Examples:

  flowherd status

  flowherd status --supervisor-url unix:///run/supervisor.sock --program flowherd
"""
_POKE_TIMEOUT_S = 10.0


def add_to(app: typer.Typer) -> None:
    """Add this family's commands."""
    app.command("poke", epilog="Example:  flowherd poke --agent-address http://127.0.0.1:8080")(poke)
    app.command("status", epilog=_STATUS_EXAMPLES)(status)


def poke(
    agent_address: Annotated[
        str | None, typer.Option(metavar="URL", help="Wake the agent that was started with this --agent-address.")
    ] = None,
    api: ApiOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Wake the agents, so that they look for runs now: all agents of a flowherd server, or one by its address."""
    if agent_address is not None:
        _poke_agent(agent_address)
        woken = 1
    else:
        client, _ = open_client(api)
        if not client.hello():
            raise CommandError(f"{client.address} is no flowherd server and cannot wake agents; use --agent-address")
        woken = client.poke()
    if as_json:
        print_json({"agents": woken})
    else:
        say(f"woke {woken} agent{'' if woken == 1 else 's'}")
    raise typer.Exit(exit_codes.OK if woken else exit_codes.FAILED)


def status(
    program: Annotated[str, typer.Option(metavar="NAME", help="Its name in supervisord.")] = "flowherd",
    supervisor_url: Annotated[
        str | None, typer.Option(metavar="URL", help="supervisord: unix:///path or http://HOST:PORT.")
    ] = None,
    supervisor_conf: Annotated[
        str | None, typer.Option(metavar="FILE", help="supervisord's configuration, for its address.")
    ] = None,
    name: Annotated[str | None, typer.Option("-n", "--name", help="The agent's name (default: the settings')")] = None,
    state_dir: Annotated[str | None, typer.Option(metavar="DIR", help="The agent's state directory.")] = None,
    api: ApiOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object.")] = False,
) -> None:
    """Tell whether the agent is up: by supervisord where it runs the agent, else by its state directory.

    Exits 0 when it is up, 1 when it is not.
    """
    from flowherd.config import load_settings

    overrides = {"cloud.agent.name": name, "agent.state_dir": state_dir, "cloud.api": api}
    flags = {"cloud.agent.name": "--name", "agent.state_dir": "--state-dir", "cloud.api": "--api"}
    loaded = load_settings(overrides, argument_names=flags)
    supervised = _supervised(program, supervisor_url, supervisor_conf)
    local = _local(loaded)
    agents, trouble = _at_backend(api)
    up = bool(supervised["up"]) if supervised is not None else bool(local["up"])
    if as_json:
        print_json({"up": up, "supervisord": supervised, "local": local, "agents": agents, "backend_error": trouble})
    else:
        _print_status(supervised, local, agents, trouble)
    raise typer.Exit(exit_codes.OK if up else exit_codes.FAILED)


def _poke_agent(address: str) -> None:
    import requests

    from flowherd.config import load_settings

    token = load_settings().settings.agent.api_token
    url = (address if "//" in address else f"http://{address}").rstrip("/") + "/api/poke"
    try:
        with requests.Session() as session:
            session.trust_env = False
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            answer = session.get(url, timeout=_POKE_TIMEOUT_S, headers=headers, allow_redirects=False)
    except requests.RequestException as error:
        raise BackendUnavailable(f"no answer from the agent at {url}: {error}") from error
    if answer.status_code == 401:
        raise CommandError(f"the agent at {url} wants a token: set FLOWHERD__AGENT__API_TOKEN", exit_codes.USAGE)
    if not answer.ok:
        raise CommandError(f"the agent at {url} answered HTTP {answer.status_code}")


def _supervised(program: str, url: str | None, configuration: str | None) -> dict[str, Any] | None:
    """What supervisord says; None when there is no supervisord to ask, or it does not know the program.

    A supervisord that was named on the command line is to be asked in any case.
    """
    from flowherd.supervisord.rpc import SupervisordError, find_access, program_state

    named = bool(url or configuration)
    try:
        access = find_access(url, configuration)
        if access is None:
            return None
        found = program_state(access, program)
    except SupervisordError as error:
        if named:
            raise CommandError(str(error), exit_codes.UNREACHABLE) from error
        return None
    if found.state is None:
        if named:
            raise CommandError(f"supervisord at {access.url} knows no program {program!r}", exit_codes.NOT_FOUND)
        return None
    return {
        "program": program,
        "up": found.up,
        "state": found.state,
        "pid": found.pid,
        "description": found.description,
        "url": access.url,
    }


def _local(loaded: LoadedSettings) -> dict[str, Any]:
    """Whether an agent holds the state directory, and how many runs lie in it."""
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.cli.doctor.lock_holder import lock_holder

    directory = loaded.paths.state_dir
    pid = lock_holder(directory / "agent.lock")
    runs = sum(1 for entry in (directory / "runs").glob("*") if entry.is_dir())
    name = loaded.settings.cloud.agent.name
    said = AgentClient.in_directory(directory, name).look() if pid is not None else None
    return {
        "name": name,
        "up": pid is not None,
        "pid": pid,
        "status": said["status"] if said is not None else None,
        "state_dir": directory,
        "runs": runs,
    }


def _at_backend(api: str | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    """The agents that the backend knows, or why it cannot be asked."""
    try:
        client, _ = open_client(api)
        found = client.agents()
    except (BackendError, CommandError) as error:
        return None, str(error)
    now = datetime.now(timezone.utc)
    return [
        {
            "id": agent.id,
            "name": agent.name,
            "labels": list(agent.labels),
            "alive": agent.alive(now),
            "last_queried": agent.last_queried,
        }
        for agent in found
    ], None


def _print_status(
    supervised: dict[str, Any] | None,
    local: dict[str, Any],
    agents: list[dict[str, Any]] | None,
    trouble: str | None,
) -> None:
    if supervised is not None:
        say(f"supervisord: {supervised['program']} {supervised['state']} {supervised['description']}".rstrip())
    word = f"up, pid {local['pid']}" if local["up"] else "not running here"
    if local["status"] not in (None, "ok"):
        word += f", {local['status']}"
    runs = "1 run" if local["runs"] == 1 else f"{local['runs']} runs"
    say(f"agent {local['name']!r}: {word}; {runs} in {local['state_dir']}")
    if agents is None:
        note(f"backend: {trouble}")
        return
    rows = [
        (a["name"], "up" if a["alive"] else "away", ", ".join(a["labels"]), _ago(a["last_queried"])) for a in agents
    ]
    if rows:
        print_table(("AGENT", "AT BACKEND", "LABELS", "LAST HEARD"), rows)


def _ago(at: datetime | None) -> str:
    from flowherd.cli.parse_options import span

    return f"{span(max(0.0, (datetime.now(timezone.utc) - at).total_seconds()))} ago" if at else "never"

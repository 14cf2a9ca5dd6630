"""`flowherd status`: whether the agent is up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import typer

from flowherd.cli import exit_codes
from flowherd.cli.failures import CommandError
from flowherd.cli.format_times import span
from flowherd.cli.open_client import open_client
from flowherd.cli.options import (
    ApiOption,
    JsonOption,
    NameOption,
    ProgramOption,
    StateDirOption,
    SupervisorConfOption,
    SupervisorUrlOption,
    settings_from,
)
from flowherd.cli.printing import print_json, print_line, print_note
from flowherd.cli.tables import Column, Cut, show_table, state_style
from flowherd.errors import BackendError

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

_EXAMPLES = """
Examples:

  flowherd status

  flowherd status --supervisor-url unix:///run/supervisor.sock --program flowherd
"""


def add_to(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("status", epilog=_EXAMPLES)(status)


def status(
    program: ProgramOption = "flowherd",
    supervisor_url: SupervisorUrlOption = None,
    supervisor_conf: SupervisorConfOption = None,
    name: NameOption = None,
    state_dir: StateDirOption = None,
    api: ApiOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show whether the agent is up: according to supervisord if it runs the agent, else to its state directory.

    Exits 0 when it is up, 1 when it is not.
    """
    loaded = settings_from(name=name, state_dir=state_dir, api=api)
    supervised = _supervised(program, supervisor_url, supervisor_conf)
    local = _local(loaded)
    agents, problem = _at_backend(api)
    up = bool(supervised["up"]) if supervised is not None else bool(local["up"])
    if as_json:
        print_json({"up": up, "supervisord": supervised, "local": local, "agents": agents, "backend_error": problem})
    else:
        _print_status(supervised, local, agents, problem)
    raise typer.Exit(exit_codes.OK if up else exit_codes.FAILED)


def _supervised(program: str, url: str | None, configuration: str | None) -> dict[str, Any] | None:
    """Return supervisord's view of the agent; None if no supervisord is found or it does not know the program.

    Raises CommandError if a supervisord was named on the command line and has no such view.
    """
    from flowherd.cli.agent.ask_supervisord import ask_supervisord

    found = ask_supervisord(program, url, configuration)
    if found is None:
        return None
    access, state = found
    if state.state is None:
        if url or configuration:
            raise CommandError(f"supervisord at {access.url} has no program {program!r}", exit_codes.NOT_FOUND)
        return None
    return {
        "program": program,
        "up": state.up,
        "state": state.state,
        "pid": state.pid,
        "description": state.description,
        "url": access.url,
    }


def _local(loaded: LoadedSettings) -> dict[str, Any]:
    """Return whether an agent holds the state directory, and how many runs are in it."""
    from flowherd.cli.agent.agent_client import AgentClient
    from flowherd.cli.agent.lock_holder import agent_pid, missing_files

    directory = loaded.paths.state_dir
    pid = agent_pid(directory)
    runs = sum(1 for entry in (directory / "runs").glob("*") if entry.is_dir())
    name = loaded.settings.cloud.agent.name
    facts = AgentClient.in_directory(directory, name).look() if pid is not None else None
    return {
        "name": name,
        "up": pid is not None,
        "pid": pid,
        "status": facts["status"] if facts is not None else None,
        "missing": missing_files(directory) if pid is not None else [],
        "preloading": facts.get("preloading", []) if facts is not None else [],
        "state_dir": directory,
        "runs": runs,
    }


def _at_backend(api: str | None) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Return the agents that the backend knows, or why it cannot be asked."""
    try:
        client, _ = open_client(api)
        found = client.agents.all()
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
    problem: str | None,
) -> None:
    if supervised is not None:
        print_line(f"supervisord: {supervised['program']} {supervised['state']} {supervised['description']}".rstrip())
    state = f"up, pid {local['pid']}" if local["up"] else "not running here"
    if local["status"] not in (None, "ok"):
        state += f", {local['status']}"
    runs = "1 run" if local["runs"] == 1 else f"{local['runs']} runs"
    print_line(f"agent {local['name']!r}: {state}; {runs} in {local['state_dir']}")
    if local["missing"]:
        missing = ", ".join(local["missing"])
        print_line(
            f"removed from {local['state_dir']}: {missing}; the agent makes what is missing again at its next poll. "
            f"Keep cleaners of temporary files out of that directory, or move it (--state-dir)"
        )
    for wait in local["preloading"]:
        module = wait["module"] or "its first module"
        print_line(f"fork server: {wait['interpreter']} has been importing {module} for {span(wait['seconds'])}")
    if agents is None:
        print_note(f"backend: {problem}")
        return
    if agents:
        show_table(_COLUMNS, agents)


_COLUMNS: Sequence[Column[dict[str, Any]]] = (
    Column("AGENT", lambda agent: agent["name"], cut=Cut.MIDDLE, best=30),
    Column("AT BACKEND", lambda agent: "up" if agent["alive"] else "away", style=state_style),
    Column("LABELS", lambda agent: ", ".join(agent["labels"]), cut=Cut.MIDDLE, rank=2),
    Column("LAST HEARD", lambda agent: _ago(agent["last_queried"])),
)


def _ago(at: datetime | None) -> str:
    return f"{span(max(0.0, (datetime.now(timezone.utc) - at).total_seconds()))} ago" if at else "never"

"""Asks an agent of this host, over its control socket, to pause, resume, drain or restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowherd.agent.control_path import SOCKET_FILE
from flowherd.cli.agent.agent_client import AgentClient
from flowherd.errors import NotFound

if TYPE_CHECKING:
    from flowherd.config import LoadedSettings

#: What is said when an agent has done what was asked.
DONE = {
    "pause": "{} is paused; its runs go on",
    "resume": "{} claims runs again",
    "drain": "{} drains: it ends when its runs have ended",
    "restart": "{} restarts; its runs go on",
}


def agents_here(loaded: LoadedSettings) -> list[Path]:
    """Return the state directories with a control socket, of this home's agents and of the configured one."""
    places = {path.parent for path in loaded.paths.agents_dir.glob(f"*/{SOCKET_FILE}")}
    if (loaded.paths.state_dir / SOCKET_FILE).exists():
        places.add(loaded.paths.state_dir)
    return sorted(places)


def ask_agent_here(name: str, action: str, places: Sequence[Path]) -> str:
    """Ask the agent with this name and return what came of it; `places` are state directories.

    Raises NotFound if it does not run there, and CommandError if it refuses.
    """
    for place in places:
        client = AgentClient.in_directory(place, place.name)
        facts = client.look()
        if facts is not None and facts["agent"] == name:
            client.post(action)
            return DONE[action].format(name)
    raise NotFound(f"agent {name!r} does not run on this host; use `flowherd {action}` on its own host")

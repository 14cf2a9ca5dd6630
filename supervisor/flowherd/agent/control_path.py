"""Where an agent's control socket is; used by the agent and by the commands that talk to it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from flowherd import socket_path

SOCKET_FILE = "control.sock"


def short_path(state_dir: Path) -> AbstractContextManager[str]:
    """Give the socket's path in a form that fits into a socket address. Raises OSError if there is no directory."""
    return socket_path.short_path(state_dir, SOCKET_FILE)

"""Serves the agent's API on a Unix socket in its state directory, where commands on this host find it.

The modes of the socket (0600) and of the directory (0700) decide who may use it; no token is needed. Processes of runs
are refused (socket_peers.py).
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from flowherd.agent.control_path import SOCKET_FILE, short_path
from flowherd.agent.http_api import ApiFacts, HttpThread, Routes
from flowherd.agent.run_requests import RunRequests
from flowherd.http_connections import BACKLOG


class ControlSocket:
    """The API in an open state directory. A socket that a killed agent left there is replaced.

    Raises OSError when the socket cannot be made.
    """

    def __init__(self, state_dir: Path, facts: ApiFacts) -> None:
        self._path = state_dir / SOCKET_FILE
        self._path.unlink(missing_ok=True)
        more = RunRequests(facts.records, facts.open_client).routes()
        app, listener = Routes(facts, lambda _request: None, more).app, _listening(state_dir)
        self._thread = HttpThread(app, listener, "control", facts.belongs_to)
        self._identity = _identity(self._path)

    def start(self) -> None:
        """Start serving."""
        self._thread.start()

    @property
    def is_removed(self) -> bool:
        """Whether nothing has the socket's name any more: a cleaner of temporary files may have removed it."""
        return _identity(self._path) is None

    def stop(self) -> None:
        """Stop serving, and remove the socket unless another one is there by now."""
        if _identity(self._path) == self._identity:
            self._path.unlink(missing_ok=True)
        self._thread.stop()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _listening(state_dir: Path) -> socket.socket:
    with contextlib.ExitStack() as undo, short_path(state_dir) as path:
        listener = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        os.fchmod(listener.fileno(), 0o600)  # before it has a name; bind(2) keeps the mode
        listener.bind(path)
        listener.listen(BACKLOG)
        undo.pop_all()
    return listener

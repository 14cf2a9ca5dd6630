"""Refuses requests that a flow run makes over one of the agent's Unix sockets.

What can be asked there concerns the agent and the runs of others, and a run, which has the agent's user, passes every
mode of a file.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from flowherd.http_connections import REFUSAL
from flowherd.peer_credentials import peer_of

#: A pidfd of the peer (Linux 6.5); Python has no name for it.
_SO_PEERPIDFD = 77


class RefusingRuns:
    """`app`, which answers 403 to those of whom `refusal` says why."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state: MutableMapping[str, Any] = scope.get("state", {})
        app = JSONResponse({"error": state[REFUSAL]}, 403) if state.get(REFUSAL) else self._app
        await app(scope, receive, send)


def refusal(connected: socket.socket, belongs_to: Callable[[int], str | None]) -> str:
    """Return why the process at the other end may ask nothing; empty if it may, and always for TCP.

    `belongs_to` says which run a process belongs to, as in "flow run ID".
    """
    if connected.family != socket.AF_UNIX:
        return ""
    pid = peer_of(connected).pid
    if pid <= 0 or pid == os.getpid():  # in a pid namespace that is not below this one, so in no run
        return ""
    run = belongs_to(pid)
    if run is not None:
        return f"refused: process {pid} belongs to {run}; flow runs may not use an agent's control socket"
    if _has_ended(connected, pid):
        return f"refused: process {pid}, which has connected, has ended; ask again, and wait for the answer"
    return ""


def _has_ended(connected: socket.socket, pid: int) -> bool:
    """Return whether the process that connected is gone, so that another one uses its socket, or has its pid."""
    try:
        pidfd = connected.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT or not Path(f"/proc/{pid}").exists()
    try:
        poll = select.poll()  # select(2) cannot watch descriptors above 1023
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(0))
    finally:
        os.close(pidfd)

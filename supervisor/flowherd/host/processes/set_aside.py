"""Fork servers that no new run is started from: they end once nothing can still ask them for a runner."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowherd.host.processes.fork_server import ForkServer

#: Most fork servers of a particular environment that are kept at the same time.
MAX_OWN_ENVIRONMENTS = 4
#: How long one of them is kept without a run, seconds.
OWN_ENVIRONMENT_IDLE_S = 600.0
#: How long a fork server is kept after it was set aside, seconds: a thread that has just got it may send a request.
_GRACE_S = 5.0


class SetAside:
    """The fork servers that were set aside and have not ended."""

    def __init__(self) -> None:
        self.servers: list[ForkServer] = []
        #: When the last of them was set aside (monotonic).
        self._last_s = 0.0

    def add(self, server: ForkServer) -> None:
        """Set `server` aside."""
        self.servers.append(server)
        self._last_s = time.monotonic()

    def end_idle(self) -> None:
        """End those that are idle, some seconds after the last one was set aside; their runners go on."""
        if not self.servers or time.monotonic() - self._last_s < _GRACE_S:
            return
        idle = [server for server in self.servers if server.is_idle or not server.alive]
        for server in idle:
            self.servers.remove(server)
            server.close()

"""Fork servers that no new run is started from: they end once nothing can still ask them for a runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowherd.host.processes.fork_server import ForkServer

#: Most fork servers of a particular environment that are kept at the same time.
MAX_OWN_ENVIRONMENTS = 4
#: How long one of them is kept without a run, seconds.
OWN_ENVIRONMENT_IDLE_S = 600.0
#: How long a fork server that was set aside is kept without a request, seconds: a thread that has just got it may send
#: one.
_GRACE_S = 5.0


class SetAside:
    """The fork servers that were set aside and have not ended."""

    def __init__(self) -> None:
        self.servers: list[ForkServer] = []

    def add(self, server: ForkServer) -> None:
        """Set `server` aside."""
        self.servers.append(server)

    def end_idle(self) -> None:
        """End those that have been idle for some seconds; their runners go on."""
        for server in [server for server in self.servers if server.idle_s >= _GRACE_S]:
            self.servers.remove(server)
            server.close()

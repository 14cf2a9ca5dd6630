"""The limits of an HTTP server's connections, and the log of what is refused because of them."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, replace

from loguru import logger

#: Minimum number of connections, however few descriptors there are.
_LEAST_CONNECTIONS = 8
#: A kind of refusal that has not happened for this time is over, seconds.
_QUIET_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one listening socket."""

    #: Maximum number of connections.
    connections: int = 1000
    #: Descriptors that are left for everything else in the process, such as the database and the log.
    reserve: int = 96
    #: Maximum size of a request, bytes; the connection of a larger one is closed.
    request_bytes: int
    #: Longest time until the head of a request is complete, from the connection or the last answer on, seconds.
    head_s: float = 10.0
    #: Longest time in which a body, or the reading of an answer, neither ends nor gets on by 16 KiB a second, seconds.
    transfer_s: float = 30.0

    def for_this_process(self) -> Limits:
        """Return these limits with no more connections than the process has descriptors for."""
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft == resource.RLIM_INFINITY:
            return self
        return replace(self, connections=max(_LEAST_CONNECTIONS, min(self.connections, soft - self.reserve)))


class Refusals:
    """Logs each kind of refusal when it begins and when it is over, and only counts it in between."""

    def __init__(self, server: str) -> None:
        self._server = server
        #: {kind: (number, time of the last one (monotonic))}.
        self._kinds: dict[str, tuple[int, float]] = {}

    def note(self, kind: str) -> None:
        """Note a refusal; `kind` is a sentence without a period that is the same for all of its kind."""
        count, _ = self._kinds.get(kind, (0, 0.0))
        self._kinds[kind] = count + 1, time.monotonic()
        if not count:
            logger.warning("{}: {} (logged once, then counted)", self._server, kind)

    def end_quiet(self, now: float) -> None:
        """Log the numbers of those kinds that have not happened for a while."""
        for kind, (count, last) in list(self._kinds.items()):
            if now - last > _QUIET_S:
                del self._kinds[kind]
                logger.info("{}: {}: {} times, none in the last {:.0f} s", self._server, kind, count, _QUIET_S)

"""When an agent reports itself to a server that keeps such reports, and what. No request is made for it."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable

from loguru import logger

from flowherd import __version__
from flowherd.agent.connection import Connection
from flowherd.agent.health import ClaimPause
from flowherd.agent.platform import Figures
from flowherd.backends.protocol import ReportingBackend
from flowherd.story.agent_report import AgentReport

#: How old the last report may be if nothing has changed, seconds.
_REPORT_S = 60.0


class OwnReport:
    """Hands reports to the backend, which sends them along with its next request for flow runs."""

    def __init__(
        self,
        connection: Connection,
        instance: str,
        figures: Callable[[], Figures],
        claim_pause: Callable[[], ClaimPause | None],
    ) -> None:
        self._connection = connection
        self._instance = instance
        self._figures = figures
        self._claim_pause = claim_pause
        self._since = time.time()
        self._host = socket.gethostname()
        self._reported_s: float | None = None
        #: What was reported last of what is not to wait: the reason for claiming nothing, and the server's life.
        self._last: tuple[str, int] | None = None

    def before_request(self) -> None:
        """Report if something has changed, or the last report is old; called before a request for flow runs."""
        connection = self._connection
        if connection.capabilities is None or not connection.capabilities.keeps_agent_reports:
            return
        pause = self._claim_pause()
        present = (pause.word if pause else "", connection.epoch)
        now_s = time.monotonic()
        if self._last == present and self._reported_s is not None and now_s - self._reported_s < _REPORT_S:
            return
        self._last, self._reported_s = present, now_s
        backend = connection.backend
        if isinstance(backend, ReportingBackend):
            try:
                backend.report_agent(self._report(pause).as_json())
            except Exception as error:  # what is only for a list must not keep the agent from polling
                logger.debug("The agent cannot report itself: {!r}", error)

    def _report(self, pause: ClaimPause | None) -> AgentReport:
        figures = self._figures()
        return AgentReport(
            instance=self._instance,
            host=self._host,
            version=__version__,
            python=platform.python_version(),
            pid=os.getpid(),
            since=self._since,
            limit=figures.limit,
            runs=figures.runs,
            hold=pause.word if pause else "",
            hold_reason=pause.reason if pause else "",
            unsent_bytes=figures.spool_bytes,
            load=round(os.getloadavg()[0], 2),
            cpus=os.cpu_count(),
        )

"""When an agent reports itself and its runs to a server that keeps such reports. No request is made for it."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import Any

from loguru import logger

from flowherd import __version__
from flowherd.agent.connection import Connection
from flowherd.agent.health import ClaimPause
from flowherd.agent.orders import Orders
from flowherd.agent.platform import Figures, Platform
from flowherd.backends.protocol import ReportingBackend
from flowherd.host_figures import read_host
from flowherd.story.agent_report import AgentReport
from flowherd.story.live import MOST_RUNS, RunFigures, read_run_figures

#: How old the last report may be if nothing has changed, seconds.
_REPORT_S = 60.0
#: Maximum number of processes in a report.
_MOST_PROCESSES = 4_000


class OwnReport:
    """Hands reports to the backend, which sends them along with its next request for flow runs."""

    def __init__(
        self,
        connection: Connection,
        instance: str,
        figures: Callable[[], Figures],
        claim_pause: Callable[[], ClaimPause | None],
        platform: Callable[[], Platform],
        orders: Orders,
    ) -> None:
        self._connection = connection
        self._instance = instance
        self._figures = figures
        self._claim_pause = claim_pause
        self._platform = platform
        self._orders = orders
        self._since = time.time()
        self._host = socket.gethostname()
        self._reported_s: float | None = None
        #: What was reported last of what is not to wait: the reason for claiming nothing, and the server's life.
        self._last: tuple[str, int] | None = None

    def before_request(self) -> None:
        """Report if something has changed, or the last report is old; called before a request for flow runs."""
        connection = self._connection
        if not connection.keeps_reports:
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
                backend.report_agent(self.live())
            except Exception as error:  # what is only for a list must not keep the agent from polling
                logger.debug("The agent cannot report itself: {!r}", error)

    def live(self, looked_at: Collection[str] = ()) -> dict[str, Any]:
        """Return the report with the figures of the runs, of those in `looked_at` with their processes."""
        runs = self._platform().living_runs(looked_at)[:MOST_RUNS]
        figures = [one.as_json() for one in _shortened(read_run_figures(runs))]
        return {**self.report().as_json(), "run_figures": figures, "outcomes": self._orders.outcomes}

    def report(self) -> AgentReport:
        """Return what the agent reports of itself now."""
        figures, pause, state_dir = self._figures(), self._claim_pause(), self._platform().state_dir
        host = read_host({"state": state_dir})
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
            unsent_most_bytes=figures.spool_most_bytes,
            load=host.load,
            cpus=host.cpus,
            host_figures=host,
            remote=self._orders.allowed,
        )


def _shortened(figures: Iterable[RunFigures]) -> Iterator[RunFigures]:
    """Return the figures without the processes of later runs, if these would be too many for a request."""
    left = _MOST_PROCESSES
    for one in figures:
        left -= len(one.tree)
        yield one if left >= 0 else replace(one, tree=())

"""The parts of an agent, and what programs and subclasses ask of them; the published methods are in agent.py."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from flowherd.agent import health
from flowherd.agent.agent_metrics import AgentMetrics
from flowherd.agent.api_servers import ApiServers
from flowherd.agent.claim_gate import ClaimGate
from flowherd.agent.claims import Claims
from flowherd.agent.connection import Connection
from flowherd.agent.control import Control
from flowherd.agent.http_api import ApiFacts
from flowherd.agent.label_limits import LabelLimits
from flowherd.agent.live_reports import LiveReports
from flowherd.agent.loop import PollLoop
from flowherd.agent.offered_runs import OfferedRuns
from flowherd.agent.orders import Orders
from flowherd.agent.own_client import open_own_client
from flowherd.agent.own_report import OwnReport
from flowherd.agent.platform import Figures, Platform
from flowherd.agent.reload import Reload, source_of_library
from flowherd.agent.shutdown import ShutdownRequest, ShutdownWait
from flowherd.agent.signal_actions import signal_actions
from flowherd.agent.systemd import notify_stopping
from flowherd.backends.protocol import Backend
from flowherd.backends.registry import open_client
from flowherd.config import LoadedSettings
from flowherd.config.cloud_token import require_cloud_token
from flowherd.config.settings_changes import taking_over
from flowherd.errors import BackendRefused
from flowherd.host_figures import read_host
from flowherd.signals import Actions, StopSignals, Waker
from flowherd.values import AgentIdentity, Wake

if TYPE_CHECKING:
    from flowherd.backends.graphql.agent_client import AgentClient


class AgentParts:
    """What an agent consists of; `Agent.__init__` makes the parts."""

    loaded: LoadedSettings
    #: Whether the agent works: it has adopted its runs and serves its API.
    _own_is_set_up: bool
    name: str
    labels: list[str]
    agent_config_id: str | None
    logger: logging.Logger
    control: Control
    _own_given_backend: Backend | None
    _own_given_settings: LoadedSettings | None
    _own_connection: Connection
    _own_claims: Claims
    _own_loop: PollLoop
    _own_api_servers: ApiServers
    _own_claim_gate: ClaimGate
    _own_platform: Platform
    _own_waker: Waker
    _own_offered: OfferedRuns
    submitting_flow_runs: set[str]

    @functools.cached_property
    def client(self) -> AgentClient:
        """The API of the agent's server, over the agent's connection: `graphql`, `set_flow_run_state` and so on.

        Raises NoClient, which is an AttributeError, unless the server has the GraphQL API of Prefect 0.x and 1.x.
        """
        return open_client(self.loaded, self._own_given_backend, self._own_connection, self.logger)

    @property
    def backend(self) -> Backend:
        """The backend. Raises ConfigurationError when none is configured and none runs on this host."""
        return self._own_connection.backend

    @property
    def api_address(self) -> str | None:
        """Where the HTTP API is served; None while it is not."""
        return self._own_api_servers.address

    def stop(self) -> None:
        """Ask the agent to stop, as SIGTERM does; from any thread."""
        self.control.shut_down(ShutdownRequest())

    @property
    def is_to_start_again(self) -> bool:
        """Whether a restart was requested: the program is to start the agent again once `start` has returned."""
        request = self.control.shutdown_request
        return request is not None and request.start_again

    def poke(self) -> None:
        """Look for flow runs now instead of at the next poll."""
        self._own_loop.poke()

    def health(self) -> health.Health:
        """Return whether the agent reaches its backend and its loop runs."""
        found = self._own_loop.health(self.loaded.settings.cloud.request_timeout)
        return replace(found, claim_pause=self._own_claim_gate.pause())

    def _verify_token(self, token: str) -> None:
        """Called by `start`. Raises NotAuthorized if the server is a cloud and does not accept the agent's token."""
        if require_cloud_token(self.loaded.settings):
            self._own_connection.check_token()

    def _register_agent(self) -> str:
        """Register the agent and return its id, which later requests carry. Called when the agent connects."""
        kind, config_id = type(self).__name__, self.agent_config_id
        identity = AgentIdentity(type=kind, name=self.name, labels=tuple(self.labels), config_id=config_id)
        try:
            return self._own_connection.register(identity)
        except BackendRefused as error:
            if config_id is not None:
                self.logger.warning("The agent is not registered with its configuration %s: %s", config_id, error)
            raise

    # -- inside

    def _own_platform_now(self) -> Platform:
        return self._own_platform

    @functools.cached_property
    def _own_reload(self) -> Reload:
        source = self.control.settings_source
        return Reload(self, source or source_of_library(self._own_given_settings, self.loaded))

    def _own_use_settings(self, loaded: LoadedSettings, changed: Collection[str]) -> dict[str, str]:
        """Have all parts use these settings, of which `changed` differ. Called by a reload, in its thread.

        Returns why single settings cannot be used, by their names; those stay as they were.
        """
        refused = self._own_platform.reload(loaded, changed)
        self.loaded = taking_over(loaded, self.loaded, refused)
        self._own_label_limits.use(self.loaded.settings.agent.label_limits)
        self._own_orders.allowed = self.loaded.settings.agent.remote
        self.poke()
        return refused

    @functools.cached_property
    def _own_signal_actions(self) -> Actions:
        return signal_actions(self)

    @functools.cached_property
    def _own_label_limits(self) -> LabelLimits:
        return LabelLimits(self.loaded.settings.agent.label_limits, self._own_platform_now)

    @functools.cached_property
    def _own_report(self) -> OwnReport:
        figures, pause = self._own_figures, self._own_claim_gate.pause
        shown = self._own_platform_now, self._own_orders
        report = OwnReport(self._own_connection, self.control.instance, figures, pause, *shown)
        self._own_connection.before_last_request = report.before_request
        return report

    @functools.cached_property
    def _own_orders(self) -> Orders:
        return Orders(self.control, self.poke, allowed=self.loaded.settings.agent.remote)

    @functools.cached_property
    def _own_live(self) -> LiveReports:
        return LiveReports(self._own_connection, self._own_report, self._own_orders)

    def _own_is_stopping(self, signals: StopSignals) -> bool:
        if signals.count > 0:
            self.control.shut_down(ShutdownRequest())
        return self.control.shutdown_request is not None

    def _own_shut_down(self, signals: StopSignals) -> None:
        notify_stopping(will_start_again=self.is_to_start_again)
        self.control.shut_down(ShutdownRequest())  # after `max_polls` nobody has asked for it
        wait = ShutdownWait(signals, self._own_waker, self._own_loop.beat_while_stopping)
        request = self.control.shutdown_request
        assert request is not None
        if request.on_stop != "drain":
            self._own_platform.begin_closing()
        elif self._own_connection.keeps_reports:
            self._own_live.keep_on()
        wait.flush(self._own_loop.is_idle)
        self._own_platform.shut_down(request, wait)

    def _own_woken(self, wake: Wake) -> None:
        if wake.live is not None:
            self._own_live.take(wake.live)
        self._own_platform.woken(wake)
        if wake.offered:
            self._own_offered.take(wake.offered)
        elif wake.work and self._own_platform.room(self.submitting_flow_runs) != 0:
            self.poke()  # without room, the end of a run leads to a poll

    def _own_api_facts(self) -> ApiFacts:
        runs, figures = self._own_platform.living_runs, self._own_figures
        self.control.reload = self._own_reload.carry_out
        metrics = AgentMetrics(
            connection=self._own_connection,
            health=self.health,
            runs=runs,
            figures=figures,
            host=lambda: read_host({"state": self._own_platform.state_dir}),
        )
        client = functools.partial(open_own_client, self.loaded, self._own_given_backend)
        shown = figures, self._own_live.own_report.report, metrics, lambda: self._own_platform.records, client
        return ApiFacts(self.name, self.health, self.poke, runs, self.control, *shown, self._own_platform.belongs_to)

    def _own_status(self) -> str:
        """The agent in a few words, for the service manager's own list."""
        figures, doing = self._own_platform.figures(), self.control.shutdown_request or self._own_claim_gate.pause()
        runs = f"{figures.runs} run{'s' * (figures.runs != 1)}"
        limit = f", limit {figures.limit}" if figures.limit is not None else ""
        return f"{runs}{limit}" + (f", {doing.word}" if doing is not None else "")

    def _own_figures(self) -> Figures:
        full, most = self._own_label_limits.full(self.submitting_flow_runs), self.loaded.settings.runs.max_spool_bytes
        return replace(self._own_platform.figures(), full_labels=full, spool_most_bytes=most)

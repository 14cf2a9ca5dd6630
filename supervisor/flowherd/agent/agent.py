"""The published Agent class: polls a backend, claims flow runs and deploys them; a subclass says how.

The constructor and the public methods keep the published contract (docs/design.md, section 8). The work is done by the
parts beside this module: loop, connection, claims, platform.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace

from loguru import logger

from flowherd.agent import agent_log, health
from flowherd.agent.api_servers import ApiServers
from flowherd.agent.backoff import LOOP_INTERVALS
from flowherd.agent.claim_gate import ClaimGate
from flowherd.agent.claims import Claims
from flowherd.agent.connection import Connection
from flowherd.agent.control import PAUSE_FILE, Control
from flowherd.agent.direct_reports import report_failure, write_line
from flowherd.agent.http_api import ApiFacts
from flowherd.agent.loop import PollLoop
from flowherd.agent.platform import Elsewhere, Platform
from flowherd.agent.shutdown import ShutdownRequest, ShutdownWait
from flowherd.agent.systemd import notify_ready, notify_stopping
from flowherd.backends.protocol import Backend
from flowherd.backends.registry import open_backend
from flowherd.config import LoadedSettings, load_settings
from flowherd.config.cloud_token import require_cloud_token
from flowherd.errors import AgentStopping, BackendError, BackendUnavailable, ClaimLost, NotAuthorized
from flowherd.signals import StopSignals, Waker, catching_stop_signals
from flowherd.values import AgentIdentity, FlowRun, Wake


class Agent:
    """Polls a backend for flow runs and deploys them; a subclass that implements only `deploy_flow` is a working agent.

    Arguments that are not given come from the configuration (docs/reference/settings.md).

    name            the agent's name; "agent" if nothing else names it
    labels          labels of the flow runs that it takes
    env_vars        environment variables for every flow run that it deploys
    max_polls       end after this many polls; None means never
    agent_address   where to serve the agent's HTTP API, as in http://127.0.0.1:8080; empty means nowhere
    no_cloud_logs   write no log line to the backend, the agent's own included
    settings        configuration that is loaded already; None loads it now
    backend         a backend other than the configured one

    Raises ConfigurationError when a setting cannot be used.
    """

    def __init__(
        self,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        max_polls: int | None = None,
        agent_address: str | None = None,
        no_cloud_logs: bool = False,
        *,
        settings: LoadedSettings | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.loaded = settings or load_settings()
        configured = self.loaded.settings.cloud.agent
        self.name = name or configured.name
        self.labels = list(labels or configured.labels)
        self.env_vars = dict(env_vars or configured.env_vars)
        self.max_polls = max_polls
        self.agent_address = agent_address or configured.agent_address
        self.log_to_cloud = not no_cloud_logs and self.loaded.settings.sends_logs
        self.logger = logger.bind(agent=self.name)
        #: Ids of the flow runs that are being deployed now.
        self.submitting_flow_runs: set[str] = set()
        self._waker = Waker()
        #: Requests from the operator.
        self.control = Control(self._waker.wake)
        self._connection = Connection(lambda: backend or open_backend(self.loaded), self._woken, self._waker.wake)
        self._platform: Platform = Elsewhere(self.submitting_flow_runs)
        self._claims = Claims(self._connection, lambda: self._platform.identity)
        self._loop = PollLoop(self._connection, self._waker, self.loaded.settings.cloud.lost_contact_limit)
        self._api_servers = ApiServers(self.loaded.settings.agent.api_token)
        self._claim_gate = ClaimGate(self.logger, self.control.claim_pause, lambda: self._platform.pause_reason())

    # -- the published methods

    def start(self, _loop_intervals: dict[int, float] | None = None) -> None:
        """Run until asked to stop by SIGINT or SIGTERM, or for `max_polls` polls.

        `_loop_intervals` replaces the pauses between polls; exposed for tests.

        Raises NotAuthorized when the backend does not accept the token.
        """
        self._loop.use_intervals(_loop_intervals or LOOP_INTERVALS)
        agent_log.configure_unless_done(self.loaded.settings.cloud.agent.level, self.loaded.settings.logging)
        with catching_stop_signals(self._waker) as signals:
            is_stopping = functools.partial(self._is_stopping, signals)
            try:
                self._loop.call(self._get_ready, is_stopping)
                self._loop.run(self._heartbeat_and_poll, is_stopping, self.max_polls)
                self._shut_down(signals)
            finally:
                self.cleanup()

    def setup(self) -> None:
        """Get ready: adopt what an earlier agent left, connect, serve the HTTP API. Called once by `start`."""
        self._platform.open()
        if self._platform.state_dir is not None:
            self.control.remember_pause_in(self._platform.state_dir / PAUSE_FILE)
        self._api_servers.serve_socket(self._api_facts(), self._platform.state_dir)
        self.agent_connect()
        self._api_servers.serve_address(self._api_facts(), self.agent_address)

    def agent_connect(self) -> None:
        """Connect to the backend and register. A backend that does not answer is tried again at every poll.

        Raises NotAuthorized when it answers that it does not accept the token.
        """
        self.logger.info("Starting {} '{}' with labels {}", type(self).__name__, self.name, self.labels)
        try:
            self._connect()
        except NotAuthorized:
            raise
        except BackendError as error:
            self.logger.error("Cannot reach the backend at {}, trying again: {}", self._connection.address, error)

    def agent_process(self, executor: Executor) -> bool:
        """Look for flow runs and deploy them in the executor's threads; return whether any were found.

        Raises nothing for a single bad run, nor when the backend is away; NotAuthorized is raised.
        """
        return self._loop.guard(functools.partial(self._look_for_flow_runs, executor))

    def query_flow_runs(self) -> list[FlowRun]:
        """Fetch the flow runs that are due for this agent, that it does not have already, and for which it has room."""
        room = self._platform.room(self.submitting_flow_runs)
        # Also without room: the backend learns that the agent is alive, and the agent that the backend is.
        found = self._connection.requests.ready_runs(self.labels, set(self.submitting_flow_runs))
        found = [flow_run for flow_run in found if not self._platform.holds(flow_run.id)]
        if room is not None and len(found) > room:
            self.logger.debug("{} flow runs are due, there is room for {}", len(found), room)
        return found[:room]

    def deploy_and_update_flow_run(self, flow_run: FlowRun) -> None:
        """Claim one flow run and deploy it.

        An error goes to the run's log, and the run is marked Failed with its text. No state is reported after a lost
        claim, and a log line that cannot be written fails nothing.
        """
        if self._claim_gate.pause() is not None or self._connection.pause_s() > 0:  # began since the poll
            return
        try:
            self.update_state(flow_run)
        except ClaimLost as error:
            self.logger.debug("Flow run {} is not ours: {}", flow_run.id, error)
            self._forget_claim(flow_run)
        except NotAuthorized as error:  # ends the agent; the next one finds the run as it is now
            self.logger.error("Flow run {} cannot be claimed: {}", flow_run.id, error)
        except BackendUnavailable as error:
            self.logger.warning("Whether flow run {} is claimed is not known yet: {}", flow_run.id, error)
        except Exception as error:  # the boundary of one run
            self._give_up(flow_run, error)
        else:
            self._deploy_claimed(flow_run)

    def update_state(self, flow_run: FlowRun) -> None:
        """Claim the flow run: Scheduled -> Submitted, and its waiting task runs likewise.

        Raises ClaimLost when another agent has it or the platform has no room for it, BackendUnavailable when the
        outcome cannot be known now.
        """
        self._platform.prepare(flow_run, self._claims.token(flow_run))
        self._claims.take(flow_run)

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Start the flow run on this agent's platform and return in a few words where it is.

        The one method that a subclass must implement. Raise ValueError for a storage that the platform cannot run.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to deploy a flow run")

    def mark_failed(self, flow_run: FlowRun, exc: BaseException) -> None:
        """Report that the flow run failed, with the exception's text."""
        self.logger.error("Flow run {} could not be deployed: {!r}", flow_run.id, exc)
        if not self._platform.fail(flow_run, exc):
            report_failure(self._connection, self.logger, flow_run, self._claims.token(flow_run), exc)

    def on_flow_run_deploy_attempt(self, fut: Future[None], flow_run_id: str) -> None:
        """Called after every attempt to deploy: the flow run may be tried again if it is still queued."""
        self.submitting_flow_runs.discard(flow_run_id)
        self.logger.debug("The attempt to deploy flow run {} is over", flow_run_id)

    def heartbeat(self) -> None:
        """Called before every poll; for subclasses."""

    def on_shutdown(self) -> None:
        """Called while the agent shuts down; for subclasses."""

    def cleanup(self) -> None:
        """Undo `setup`, in the opposite order. Runs go on."""
        self._connection.begin_closing()
        self._api_servers.stop_socket()
        self._platform.close()
        try:
            self.on_shutdown()
        finally:
            self._api_servers.stop_address()
            self._connection.close()
            self.logger.info("Stopped {} '{}'", type(self).__name__, self.name)

    # -- beside the published ones

    @property
    def backend(self) -> Backend:
        """The backend. Raises ConfigurationError when none is configured and none runs on this host."""
        return self._connection.backend

    @property
    def api_address(self) -> str | None:
        """Where the HTTP API is served; None while it is not."""
        return self._api_servers.address

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
        self._loop.poke()

    def health(self) -> health.Health:
        """Return whether the agent reaches its backend and its loop runs."""
        found = self._loop.health(self.loaded.settings.cloud.request_timeout)
        return replace(found, claim_pause=self._claim_gate.pause())

    # -- inside

    def _heartbeat_and_poll(self, executor: Executor) -> bool:
        # Silence alone proves nothing: an agent that was suspended for a while has made no request.
        self._platform.tick(self._connection.silent_s() if self._loop.failed_polls else 0.0)
        self.control.keep_pause_file()
        self._api_servers.keep_socket()  # last: with it nothing is missing any more
        self.heartbeat()
        return self.agent_process(executor)

    def _get_ready(self) -> None:
        if require_cloud_token(self.loaded.settings):
            self._connection.check_token()
        self.setup()
        notify_ready()

    def _connect(self) -> None:
        identity = AgentIdentity(type=type(self).__name__, name=self.name, labels=tuple(self.labels))
        if self._connection.connect(identity) and self._connection.capabilities is not None:
            self._platform.connected(self._connection.capabilities)

    def _look_for_flow_runs(self, executor: Executor) -> bool:
        self._connect()
        self._settle_claims(executor)
        # Also while nothing is claimed: the backend learns that the agent is alive, and the agent that the backend is.
        flow_runs = self.query_flow_runs()
        if self._claim_gate.is_closed() or not flow_runs:
            return False
        self.logger.info("Found {} flow run(s) to submit for execution", len(flow_runs))
        for flow_run in flow_runs:
            self._submit(executor, flow_run.id, functools.partial(self.deploy_and_update_flow_run, flow_run))
        return True

    def _submit(self, executor: Executor, flow_run_id: str, work: Callable[[], None]) -> None:
        self.submitting_flow_runs.add(flow_run_id)
        try:
            future = executor.submit(work)
        except RuntimeError:  # the executor is shutting down
            self.submitting_flow_runs.discard(flow_run_id)
            raise
        future.add_done_callback(functools.partial(self.on_flow_run_deploy_attempt, flow_run_id=flow_run_id))

    def _settle_claims(self, executor: Executor) -> None:
        """Look up claims without an answer, of this agent and of an earlier one, and go on with those that hold."""
        settled = self._claims.settle(self.submitting_flow_runs)
        for flow_run, reason in settled.lost:
            self.logger.debug("Flow run {} is not ours: {}", flow_run.id, reason)
            self._forget_claim(flow_run)
        for flow_run in settled.won:
            self._submit(executor, flow_run.id, functools.partial(self._deploy_claimed, flow_run))

        def start(run_id: str) -> None:  # in another thread, because it may wait for a fork server
            self._submit(executor, run_id, functools.partial(self._platform.start_prepared, run_id))

        self._claims.settle_prepared(self._platform, self.submitting_flow_runs, start)

    def _deploy_claimed(self, flow_run: FlowRun) -> None:
        try:
            deployment = self.deploy_flow(flow_run)
        except AgentStopping as error:
            self.logger.bind(run_id=flow_run.id, run=flow_run.name).info("Left to the next agent: {}", error)
            return
        except Exception as error:  # the boundary of one run: what a platform raises fails this run alone
            self._give_up(flow_run, error)
            return
        self.logger.bind(run_id=flow_run.id, run=flow_run.name).info("Submitted for execution: {}", deployment)
        self._write_run_log(flow_run, f"Submitted for execution: {deployment}", logging.INFO)

    def _give_up(self, flow_run: FlowRun, error: Exception) -> None:
        self._write_run_log(flow_run, str(error) or repr(error), logging.ERROR)
        self.mark_failed(flow_run=flow_run, exc=error)

    def _forget_claim(self, flow_run: FlowRun) -> None:
        self._claims.forget(flow_run.id)
        self._platform.abandon(flow_run.id)

    def _write_run_log(self, flow_run: FlowRun, message: str, level: int) -> None:
        """Write one of the agent's own lines to the run's log. A line that cannot be written is logged here."""
        if self.log_to_cloud and not self._platform.note(flow_run, message, level):
            write_line(self._connection, self.logger, self.name, flow_run, message, level)

    def _is_stopping(self, signals: StopSignals) -> bool:
        if signals.count > 0:
            self.control.shut_down(ShutdownRequest())
        return self.control.shutdown_request is not None

    def _shut_down(self, signals: StopSignals) -> None:
        notify_stopping(will_start_again=self.is_to_start_again)
        self.control.shut_down(ShutdownRequest())  # after `max_polls` nobody has asked for it
        wait, request = ShutdownWait(signals, self._waker, self._loop.beat), self.control.shutdown_request
        assert request is not None
        if request.on_stop != "drain":
            self._platform.begin_closing()
        wait.flush(self._loop.is_idle)
        self._platform.shut_down(request, wait)

    def _woken(self, wake: Wake) -> None:
        self._platform.woken(wake)
        if wake.work and self._platform.room(self.submitting_flow_runs) != 0:  # else the end of a run leads to a poll
            self.poke()

    def _api_facts(self) -> ApiFacts:
        platform = self._platform
        return ApiFacts(self.name, self.health, self.poke, platform.living_runs, self.control, platform.figures)

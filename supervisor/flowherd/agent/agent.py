"""The published Agent class: polls a backend, claims flow runs and deploys them; a subclass says how.

The constructor and the public methods keep the published contract (docs/design.md, section 8). The work is done by the
parts beside this module: loop, connection, claims, platform.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future

from flowherd.agent import agent_log
from flowherd.agent.agent_logger import standard_logger
from flowherd.agent.agent_parts import AgentParts
from flowherd.agent.api_servers import ApiServers
from flowherd.agent.backoff import LOOP_INTERVALS
from flowherd.agent.claim_gate import ClaimGate
from flowherd.agent.claims import Claims
from flowherd.agent.connection import Connection
from flowherd.agent.control import PAUSE_FILE, Control
from flowherd.agent.deploy_many import CLAIMING, LOOKING, DeployMany, in_batches, overrides
from flowherd.agent.direct_reports import report_failure, write_line
from flowherd.agent.intake import Intake
from flowherd.agent.later_names import LaterNames
from flowherd.agent.loop import PollLoop
from flowherd.agent.offered_runs import OfferedRuns
from flowherd.agent.platform import Elsewhere, Platform
from flowherd.backends.protocol import Backend
from flowherd.backends.registry import open_backend
from flowherd.config import LoadedSettings, load_settings
from flowherd.errors import AgentStopping, BackendUnavailable, ClaimLost, ConfigurationError, DeployError, NotAuthorized
from flowherd.flow_run import as_flow_run
from flowherd.inspection import closed_to_inspection
from flowherd.signals import Waker, catching_stop_signals
from flowherd.values import FlowRun


class Agent(LaterNames, AgentParts):
    """Polls a backend for flow runs and deploys them; a subclass that implements only `deploy_flow` is a working agent.

    Arguments that are not given come from the configuration (docs/reference/settings.md).

    name            the agent's name; "agent" if nothing else names it
    labels          labels of the flow runs that it takes
    env_vars        environment variables for every flow run that it deploys; None removes one from the runs
    max_polls       end after this many polls; None means never
    agent_address   where to serve the agent's HTTP API, as in http://127.0.0.1:8080; empty means nowhere
    no_cloud_logs   write no log line to the backend, the agent's own included
    agent_config_id id of the agent's configuration at the backend
    settings        configuration that is loaded already; None loads it now
    backend         a backend other than the configured one

    Raises ConfigurationError when a setting cannot be used.
    """

    def __init__(
        self,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        env_vars: Mapping[str, str | None] | None = None,
        max_polls: int | None = None,
        agent_address: str | None = None,
        no_cloud_logs: bool = False,
        *,
        agent_config_id: str | None = None,
        settings: LoadedSettings | None = None,
        backend: Backend | None = None,
    ) -> None:
        self._own_given_settings, self.loaded = settings, settings or load_settings()
        configured = self.loaded.settings.cloud.agent
        self.name = name or configured.name
        self.labels = list(labels or configured.labels)
        self.env_vars: dict[str, str | None] = {**(env_vars or configured.env_vars)}
        self.max_polls = max_polls
        self.agent_config_id = agent_config_id
        self.agent_address = agent_address or configured.agent_address
        self.log_to_cloud = not no_cloud_logs and self.loaded.settings.sends_logs
        #: Logger of the standard library, named as the agent.
        self.logger = standard_logger(self.name, configured.level)
        #: Ids of the flow runs that are being deployed now.
        self.submitting_flow_runs: set[str] = set()
        waker = self._own_waker = Waker()
        #: Requests from the operator.
        self.control = Control(waker.wake)
        self._own_is_set_up = False
        self._own_given_backend = backend
        self._own_connection = Connection(lambda: backend or open_backend(self.loaded), self._own_woken, waker.wake)
        self._own_platform: Platform = Elsewhere(self.submitting_flow_runs)
        self._own_claims = Claims(self._own_connection, lambda: self._own_platform.identity)
        self._own_loop = PollLoop(self._own_connection, self._own_waker, self.loaded.settings.cloud.lost_contact_limit)
        self._own_api_servers = ApiServers(self.loaded.settings.agent.api_token)
        reasons = (self.control.claim_pause, lambda: self._own_platform.pause_reason())
        self._own_claim_gate = ClaimGate(self.logger, *reasons)
        hooks = (self._own_is_held_back, self._own_deploy_claimed, self._own_not_won)
        platform = self._own_platform_now
        deploy_many = DeployMany(self._own_claims, platform, *hooks)
        intake = (self._own_connection, self.submitting_flow_runs, platform, deploy_many, self._own_label_limits)
        self._own_intake = Intake(*intake, lambda fut, one: self.on_flow_run_deploy_attempt(fut, flow_run_id=one))
        offered = (self._own_loop, self._own_intake, self._own_claims, self.query_flow_runs, self._own_may_take)
        self._own_offered = OfferedRuns(*offered, self.logger)

    # -- the published methods

    def start(self, _loop_intervals: dict[int, float] | None = None) -> None:
        """Run until asked to stop by SIGINT or SIGTERM, or for `max_polls` polls. SIGHUP reloads the settings.

        A hook that raises SystemExit while the agent polls stops it too. Meanwhile no other process but root's can read
        this one's memory, nor can it leave a core dump. `_loop_intervals` replaces the pauses between polls; exposed
        for tests.

        Raises NotAuthorized when the backend does not accept the token.
        """
        self._own_loop.use_intervals(_loop_intervals or LOOP_INTERVALS)
        agent_log.configure_unless_done(self.loaded.settings.cloud.agent.level, self.loaded.settings.logging)
        with closed_to_inspection(), catching_stop_signals(self._own_waker, self._own_signal_actions) as signals:
            is_stopping = functools.partial(self._own_is_stopping, signals)
            try:
                self._own_loop.call(self._own_get_ready, is_stopping)
                try:
                    self._own_loop.run(self._own_heartbeat_and_poll, is_stopping, self.max_polls)
                except SystemExit as request:  # as in Prefect, it is not passed on
                    self.logger.info("Stopping because of SystemExit(%r)", request.code)
                self._own_shut_down(signals)
            finally:
                self.cleanup()

    def setup(self) -> None:
        """Get ready: adopt what an earlier agent left, connect, serve the HTTP API. Called once by `start`."""
        self._own_platform.open()
        if self._own_platform.state_dir is not None:
            self.control.remember_pause_in(self._own_platform.state_dir / PAUSE_FILE)
        self._own_api_servers.serve_socket(self._own_api_facts(), self._own_platform.state_dir)
        self.agent_connect()
        self._own_api_servers.serve_address(self._own_api_facts(), self.agent_address)

    def agent_connect(self) -> None:
        """Connect to the backend and register. A backend that does not answer is tried again at every poll.

        Raises NotAuthorized when it answers that it does not accept the token.
        """
        self.logger.info("Starting %s '%s' with labels %s", type(self).__name__, self.name, self.labels)
        try:
            self._own_connect()
        except (NotAuthorized, ConfigurationError):
            raise
        except Exception as error:  # whatever it is, the poll loop tries again
            self.logger.error("Cannot reach the backend at %s, trying again: %s", self._own_connection.address, error)

    def agent_process(self, executor: Executor) -> bool:
        """Look for flow runs and deploy them in the executor's threads; return whether any were found.

        Raises nothing for a single bad run, nor when the backend is away; NotAuthorized is raised.
        """
        return self._own_loop.guard(functools.partial(self._own_look_for_flow_runs, executor))

    def query_flow_runs(self) -> list[FlowRun]:
        """Fetch the flow runs that are due for this agent, that it does not have already, and for which it has room."""
        room = self._own_platform.room(self.submitting_flow_runs)
        labels = self._own_label_limits.open_labels(self.labels, self.submitting_flow_runs)
        asked = 0 if self._own_claim_gate.pause() is not None or labels is None else room
        found = self._own_connection.due_runs(labels or (), set(self.submitting_flow_runs), asked)
        found = [flow_run for flow_run in found if not self._own_platform.holds(flow_run.id)]
        if room is not None and len(found) > room:
            self.logger.debug("%s flow runs are due, there is room for %s", len(found), room)
        return found[:room]

    def deploy_and_update_flow_run(self, flow_run: FlowRun) -> None:
        """Claim one flow run and deploy it.

        An error goes to the run's log, and the run is marked Failed with its text. No state is reported after a lost
        claim, and a log line that cannot be written fails nothing.
        """
        if self._own_is_held_back():
            return
        flow_run = as_flow_run(flow_run)
        try:
            self.update_state(flow_run)
        except Exception as error:  # the boundary of one run
            self._own_not_won(flow_run, error)
        else:
            self._own_deploy_claimed(flow_run)

    def update_state(self, flow_run: FlowRun) -> None:
        """Claim the flow run: Scheduled -> Submitted, and its waiting task runs likewise.

        Raises ClaimLost when another agent has it or the platform has no room for it, BackendUnavailable when the
        outcome cannot be known now.
        """
        flow_run = as_flow_run(flow_run)
        self._own_platform.prepare(flow_run, self._own_claims.token(flow_run))
        self._own_claims.take(flow_run)

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Start the flow run on this agent's platform and return in a few words where it is.

        The one method that a subclass must implement. Raise ValueError for a storage that the platform cannot run.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to deploy a flow run")

    def mark_failed(self, flow_run: FlowRun, exc: BaseException) -> None:
        """Report that the flow run failed, with the exception's text."""
        flow_run = as_flow_run(flow_run)
        self.logger.error("Flow run %s could not be deployed: %r", flow_run.id, exc)
        if not self._own_platform.fail(flow_run, exc):
            report_failure(self._own_connection, self.logger, flow_run, self._own_claims.token(flow_run), exc)

    def on_flow_run_deploy_attempt(self, fut: Future[None], flow_run_id: str) -> None:
        """Called after every attempt to deploy: the flow run may be tried again if it is still queued."""
        self.submitting_flow_runs.discard(flow_run_id)
        self.logger.debug("The attempt to deploy flow run %s is over", flow_run_id)

    def cleanup(self) -> None:
        """Undo `setup`, in the opposite order. Runs go on."""
        self._own_connection.begin_closing()
        self._own_heartbeats.close()
        self._own_api_servers.stop_socket()
        self._own_platform.close()
        try:
            self.on_shutdown()
        finally:
            self._own_api_servers.stop_address()
            self._own_connection.close()
            if self._own_is_set_up:
                self.logger.info("Stopped %s '%s'", type(self).__name__, self.name)
                agent_log.flush()

    # -- inside

    def _own_heartbeat_and_poll(self, executor: Executor) -> bool:
        # Silence alone proves nothing: an agent that was suspended for a while has made no request.
        self._own_platform.tick(self._own_connection.silent_s() if self._own_loop.failed_polls else 0.0)
        self.control.keep_pause_file()
        self._own_api_servers.keep_socket()  # last: with it nothing is missing any more
        self._own_heartbeats.before_poll()
        return self.agent_process(executor)

    def _own_get_ready(self) -> None:
        self._verify_token(self.loaded.settings.cloud.agent.auth_token)
        self.setup()
        self._own_is_set_up = True
        self.on_startup()
        self._own_heartbeats.start()
        self._own_loop.watchdog.describe = self._own_status
        self._own_loop.watchdog.ready()

    def _own_connect(self) -> None:
        if self._own_connection.connect(self._register_agent) and self._own_connection.capabilities is not None:
            self._own_platform.connected(self._own_connection.capabilities)

    def _own_look_for_flow_runs(self, executor: Executor) -> bool:
        self._own_connect()
        self._own_report.before_request()
        self._own_settle_claims(executor)
        # Also while nothing is claimed: the backend learns that the agent is alive, and the agent that the backend is.
        flow_runs = self._own_new_flow_runs()
        if self._own_claim_gate.is_closed() or not flow_runs:
            return False
        self.logger.info("Found %s flow run(s) to submit for execution", len(flow_runs))
        admitted = self._own_intake.admit(flow_runs)
        if self._own_connection.shares and not overrides(self, Agent, *CLAIMING):
            for batch in in_batches(admitted):
                self._own_intake.submit_many(executor, batch)
            return True
        for flow_run in admitted:
            work = functools.partial(self.deploy_and_update_flow_run, flow_run)
            self._own_intake.submit(executor, flow_run.id, work)
        return True

    def _own_new_flow_runs(self) -> list[FlowRun]:
        """Return what `query_flow_runs` finds, without what this agent has already and has no room for.

        A subclass may find what it likes. Another start would not be stopped by the claim: it is this agent's own.
        """
        deploying = set(self.submitting_flow_runs)  # now: they may be found as they were, and be deployed meanwhile
        found = {one.id: one for one in map(as_flow_run, self.query_flow_runs())}
        new = [one for run_id, one in found.items() if run_id not in deploying and self._own_intake.is_new(one)]
        return new[: self._own_platform.room(self.submitting_flow_runs)]

    def _own_may_take(self) -> bool:
        """Return whether flow runs may be claimed now without a poll, because no override of a subclass is left out."""
        if self.max_polls is not None or overrides(self, Agent, *CLAIMING, *LOOKING):
            return False
        return self._own_connection.shares and not self._own_is_held_back()

    def _own_settle_claims(self, executor: Executor) -> None:
        """Look up claims without an answer, of this agent and of an earlier one, and go on with those that hold."""
        settled = self._own_claims.settle(self.submitting_flow_runs)
        for flow_run, reason in settled.lost:
            self.logger.debug("Flow run %s is not ours: %s", flow_run.id, reason)
            self._own_forget_claim(flow_run)
        for flow_run in settled.won:
            self._own_intake.submit(executor, flow_run.id, functools.partial(self._own_deploy_claimed, flow_run))

        def start(run_id: str) -> None:  # in another thread, because it may wait for a fork server
            self._own_intake.submit(executor, run_id, functools.partial(self._own_platform.start_prepared, run_id))

        self._own_claims.settle_prepared(self._own_platform, self.submitting_flow_runs, start)

    def _own_deploy_claimed(self, flow_run: FlowRun) -> None:
        self._own_intake.note_claimed(flow_run)
        try:
            deployment = self.deploy_flow(flow_run)
        except AgentStopping as error:
            self.logger.info("Left to the next agent: %s", error, extra={"run_id": flow_run.id, "run": flow_run.name})
            return
        except SystemExit as error:  # it would end this thread's work only, and the run would stay Submitted
            self._own_give_up(flow_run, DeployError(f"{type(self).__name__}.deploy_flow raised {error!r}"))
            return
        except Exception as error:  # the boundary of one run: what a platform raises fails this run alone
            self._own_give_up(flow_run, error)
            return
        of_run = {"run_id": flow_run.id, "run": flow_run.name}
        self.logger.info("Submitted for execution: %s", deployment, extra=of_run)
        self._own_platform.abandon(flow_run.id)  # unless it was started there: a subclass has started it itself
        self._own_write_run_log(flow_run, f"Submitted for execution: {deployment}", logging.INFO)

    def _own_is_held_back(self) -> bool:
        """Return whether nothing may be claimed now, for a reason that has come up since the poll."""
        return self._own_claim_gate.pause() is not None or self._own_connection.pause_s() > 0

    def _own_not_won(self, flow_run: FlowRun, error: Exception) -> None:
        if isinstance(error, ClaimLost):
            self.logger.debug("Flow run %s is not ours: %s", flow_run.id, error)
            self._own_forget_claim(flow_run)
        elif isinstance(error, NotAuthorized):  # ends the agent; the next one finds the run as it is now
            self.logger.error("Flow run %s cannot be claimed: %s", flow_run.id, error)
        elif isinstance(error, BackendUnavailable):
            self.logger.warning("Whether flow run %s is claimed is not known yet: %s", flow_run.id, error)
        else:
            self._own_give_up(flow_run, error)

    def _own_give_up(self, flow_run: FlowRun, error: Exception) -> None:
        self._own_write_run_log(flow_run, str(error) or repr(error), logging.ERROR)
        self.mark_failed(flow_run=flow_run, exc=error)

    def _own_forget_claim(self, flow_run: FlowRun) -> None:
        self._own_claims.forget(flow_run.id)
        self._own_platform.abandon(flow_run.id)

    def _own_write_run_log(self, flow_run: FlowRun, message: str, level: int) -> None:
        """Write one of the agent's own lines to the run's log. A line that cannot be written is logged here."""
        if self.log_to_cloud and not self._own_platform.note(flow_run, message, level):
            write_line(self._own_connection, self.logger, self.name, flow_run, message, level)

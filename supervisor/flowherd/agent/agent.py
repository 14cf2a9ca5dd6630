"""The agent for any platform: polls a backend, claims what it finds, has it deployed. How, a subclass says.

The constructor and the public methods keep the published contract of the Prefect 0.13 `Agent` class. Knows no
process and no directory; `LocalAgent` does.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from loguru import logger

from flowherd.agent import agent_log, health
from flowherd.agent.backoff import LOOP_INTERVALS, PollPace
from flowherd.agent.claims import Claims
from flowherd.agent.control import Control, Departure
from flowherd.agent.health import ClaimPause
from flowherd.agent.http_api import AgentApi, ApiFacts, Load
from flowherd.agent.suspension import suspended_s
from flowherd.agent.systemd import notify
from flowherd.backends.protocol import Backend, ServerCapabilities
from flowherd.backends.registry import open_backend
from flowherd.config import LoadedSettings, load_settings
from flowherd.errors import BackendError, BackendRefused, BackendUnavailable, ClaimLost, NotAuthorized
from flowherd.recurring_error import RecurringError
from flowherd.signals import StopSignals, Waker, catching_stop_signals
from flowherd.states import RunState
from flowherd.values import AgentIdentity, FlowRun, LogLine, StateReport, Wake

#: How long the backend may hold a wait for work; a broken connection is noticed at the latest then.
_WAKE_WAIT_S = 20.0
#: Between tries to get a wake connection again.
_WAKE_RETRY_S = 2.0
#: A backend that asks for a longer pause (Retry-After) is asked again all the same.
_LONGEST_WISH_S = 600.0
#: At least so long between two wakes.
_WAKE_PAUSE_S = 0.02


class Agent:
    """Polls a backend for flow runs and deploys them; a subclass that implements only `deploy_flow` is a working agent.

    Arguments that are not given come from the configuration (docs in README.md, "Settings").

    name            the agent's name; "agent" where nothing else says
    labels          labels of the flow runs that it takes
    env_vars        environment variables for every flow run that it deploys
    max_polls       end after so many polls; None is never
    agent_address   where to serve the agent's HTTP API, as in http://127.0.0.1:8080; empty is nowhere
    no_cloud_logs   write no log line to the backend, the agent's own included
    settings        configuration that is loaded already; else it is loaded now
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
        self.log_to_cloud = not (no_cloud_logs or configured.no_cloud_logs)
        self.logger = logger.bind(agent=self.name)
        #: Ids of the flow runs that are being deployed now.
        self.submitting_flow_runs: set[str] = set()
        self._given_backend = backend
        self._capabilities: ServerCapabilities | None = None
        self._identity = uuid.uuid4().hex
        self._claims = Claims()
        self._waker = Waker()
        self._pace = PollPace()
        self._stopping = threading.Event()
        #: What whoever operates the agent asks of it.
        self.control = Control(self._waker.wake)
        self._logged_pause: ClaimPause | None = None
        self._refused: NotAuthorized | None = None
        self._polling = RecurringError("look for flow runs", self.logger)
        self._failed_polls = 0
        #: The backend has asked for peace until then (monotonic).
        self._not_before_s = 0.0
        self._api: AgentApi | None = None
        self._started_s = self._last_beat_s = time.monotonic()
        self._last_contact_s: float | None = None

    # -- the published methods

    def start(self, _loop_intervals: dict[int, float] | None = None) -> None:
        """Run until asked to stop by SIGINT or SIGTERM, or for `max_polls` polls.

        `_loop_intervals` replaces the pauses between polls; exposed for tests.

        Raises NotAuthorized when the backend does not accept the token.
        """
        self._pace = PollPace(_loop_intervals or LOOP_INTERVALS)
        agent_log.configure_unless_done(self.loaded.settings.cloud.agent.level, self.loaded.settings.logging)
        with catching_stop_signals(self._waker) as signals:
            try:
                if self.loaded.settings.backend == "cloud":
                    self._verify_token()
                self.setup()
                notify("READY=1")
                self._loop(signals)
                self._notify_leaving()
                self._wind_down(signals)
            finally:
                self.cleanup()

    def setup(self) -> None:
        """Get ready: connect to the backend, serve the HTTP API. Called once by `start`."""
        self.agent_connect()
        if self.agent_address:
            token = self.loaded.settings.agent.api_token
            self._api = AgentApi(self.agent_address, token, self._api_facts())
            self._api.start()
            self.logger.info("Serving the agent's API at {}", self._api.address)

    def agent_connect(self) -> None:
        """Say hello to the backend and register. A backend that does not answer is tried again at every poll.

        Raises NotAuthorized when it answers that the token is not good.
        """
        self.logger.info("Starting {} '{}' with labels {}", type(self).__name__, self.name, self.labels)
        try:
            self._connect()
        except NotAuthorized:
            raise
        except BackendError as error:
            self.logger.error("Cannot reach the backend at {}, trying on: {}", self.backend.address, error)

    def agent_process(self, executor: ThreadPoolExecutor) -> bool:
        """Look for flow runs and have them deployed in the executor's threads; whether any were found.

        Raises nothing for a single bad run, nor when the backend is away; NotAuthorized goes through.
        """
        flow_runs: list[FlowRun] = []
        try:
            if self._refused is not None:
                raise self._refused
            if time.monotonic() < self._not_before_s:
                return False
            self._connect()
            self._settle_claims(executor)
            # Also while nothing is claimed: the backend is to know that the agent is there, and the agent that it is.
            flow_runs = self.query_flow_runs()
            if self._holds_back():
                flow_runs = []
            if flow_runs:
                self.logger.info("Found {} flow run(s) to submit for execution", len(flow_runs))
            for flow_run in flow_runs:
                self._in_background(executor, self.deploy_and_update_flow_run, flow_run)
            self._failed_polls = 0
        except NotAuthorized:
            raise
        except BackendError as error:
            self._failed_polls += 1
            self._heed(error)
            level = "WARNING" if self._failed_polls == 1 else "DEBUG"
            self.logger.log(level, "Poll failed ({} in a row), trying on: {}", self._failed_polls, error)
        except Exception as error:  # the loop must go on whatever one poll met
            self._failed_polls += 1
            self._polling.failed(error)
            self.logger.opt(exception=True).debug("Polling failed")
        else:
            self._polling.recovered()
        return bool(flow_runs)

    def query_flow_runs(self) -> list[FlowRun]:
        """The flow runs that are due for this agent and that it is not deploying already."""
        flow_runs = self.backend.ready_runs(self.labels, set(self.submitting_flow_runs))
        self._note_contact()
        return flow_runs

    def deploy_and_update_flow_run(self, flow_run: FlowRun) -> None:
        """Claim one flow run and deploy it.

        Any error goes to the run's log, and the run is marked Failed with its text. A lost claim is not followed
        by another state report, and a log line that cannot be written fails nothing.
        """
        if self._claim_pause() is not None:  # since the poll that found the run
            return
        try:
            self.update_state(flow_run)
        except ClaimLost as error:
            self.logger.debug("Flow run {} is not ours: {}", flow_run.id, error)
            self._forget_claim(flow_run)
            return
        except BackendUnavailable as error:
            self._heed(error)
            self.logger.warning("Whether flow run {} is claimed is not known yet: {}", flow_run.id, error)
            return
        except Exception as error:  # the boundary of one run
            self._give_up(flow_run, error)
            return
        self._deploy_claimed(flow_run)

    def update_state(self, flow_run: FlowRun) -> None:
        """Claim the flow run: Scheduled -> Submitted, and its waiting task runs likewise.

        Raises ClaimLost when another agent has it, BackendUnavailable when that cannot be known now.
        """
        arbitrated = self._capabilities is not None and self._capabilities.arbitrates
        self._claims.take(self.backend, flow_run, self._claim_token(flow_run), arbitrated=arbitrated)
        self._note_contact()

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Start the flow run on this agent's platform and return in a few words where it went.

        The one method that a subclass must implement. Raise ValueError for a storage that the platform cannot run.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how to deploy a flow run")

    def mark_failed(self, flow_run: FlowRun, exc: BaseException) -> None:
        """Tell the backend that the flow run failed, with the exception's text."""
        self.logger.error("Flow run {} could not be deployed: {!r}", flow_run.id, exc)
        report = StateReport(
            flow_run_id=flow_run.id,
            state=RunState.FAILED,
            message=str(exc) or type(exc).__name__,
            at=datetime.now(timezone.utc),
            claim=self._claim_token(flow_run),
        )
        try:
            self.backend.report(report)
        except BackendError as error:
            self.logger.error("Flow run {} could not be marked Failed: {}", flow_run.id, error)

    def on_flow_run_deploy_attempt(self, fut: Future[None], flow_run_id: str) -> None:
        """The attempt to deploy is over, however it went: the flow run may be tried again when it is still queued."""
        self.submitting_flow_runs.discard(flow_run_id)
        self.logger.debug("The attempt to deploy flow run {} is over", flow_run_id)

    def heartbeat(self) -> None:
        """Called before every poll; for subclasses."""

    def on_shutdown(self) -> None:
        """Called while the agent shuts down; for subclasses."""

    def cleanup(self) -> None:
        """Undo `setup`: call `on_shutdown`, stop the HTTP API, give the connection back."""
        self._stopping.set()
        try:
            self.on_shutdown()
        finally:
            if self._api is not None:
                self._api.stop()
                self._api = None
            if "backend" in self.__dict__:
                self.backend.close()
            self.logger.info("Stopped {} '{}'", type(self).__name__, self.name)

    # -- beside the published ones

    @functools.cached_property
    def backend(self) -> Backend:
        """The connection to the backend. Raises ConfigurationError when none is configured and none runs here."""
        return self._given_backend or open_backend(self.loaded)

    def stop(self) -> None:
        """Ask the agent to stop, as SIGTERM does; from any thread."""
        self.control.leave(Departure())

    @property
    def is_to_start_again(self) -> bool:
        """Whether somebody asked for a restart: the program is to start the agent again once `start` has returned."""
        departure = self.control.departure
        return departure is not None and departure.again

    def poke(self) -> None:
        """Look for flow runs now instead of at the next poll."""
        self._pace.reset()
        self._waker.wake()

    def health(self) -> health.Health:
        """Whether the agent reaches its backend and its loop goes round."""
        facts = health.Facts(
            started_s=self._started_s,
            last_beat_s=self._last_beat_s,
            last_contact_s=self._last_contact_s,
            longest_pause_s=self._pace.longest_s,
            request_timeout_s=self.loaded.settings.cloud.request_timeout,
        )
        return replace(health.assess(facts, time.monotonic()), claim_pause=self._claim_pause())

    # -- for subclasses of this package

    def _loop(self, signals: StopSignals) -> None:
        polls = 0
        workers = min(32, (os.cpu_count() or 1) + 4)
        with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="deploy") as executor:
            _start_threads(executor, workers)
            while not self._is_to_stop(signals) and (self.max_polls is None or polls < self.max_polls):
                self._beat()
                self.heartbeat()
                pause_s = self._pace.after_poll(self.agent_process(executor))
                polls += 1
                if self.max_polls is None or polls < self.max_polls:
                    pause_s = self._checked_pause_s(pause_s)
                    self.logger.debug("Next look for flow runs in {} s", pause_s)
                    self._rest(0 if self._is_to_stop(signals) else pause_s)

    def _rest(self, pause_s: float) -> None:
        """Wait, and say so when the wait shows that this process was stopped; all else goes on."""
        before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self._waker.wait(pause_s)
        missing_s = suspended_s(pause_s, time.clock_gettime(time.CLOCK_BOOTTIME) - before_s)
        if missing_s is not None:
            self.logger.warning(
                "The agent was suspended for {:.0f} s: stopped by a signal, or the host slept or was overloaded",
                missing_s,
            )

    def _beat(self) -> None:
        """The loop goes round."""
        self._last_beat_s = time.monotonic()
        notify("WATCHDOG=1")

    def _is_to_stop(self, signals: StopSignals) -> bool:
        if signals.count > 0:
            self.control.leave(Departure())
        return self.control.departure is not None

    def _checked_pause_s(self, pause_s: float) -> float:
        """The pause until the next poll: longer where the backend asked for it, shorter where there is a deadline."""
        return max(pause_s, self._not_before_s - time.monotonic())

    def _heed(self, error: BackendError) -> float:
        """The pause that the backend wishes for (Retry-After), which holds for all polls; seconds."""
        wish_s = min(getattr(error, "retry_after_s", None) or 0.0, _LONGEST_WISH_S)
        self._not_before_s = max(self._not_before_s, time.monotonic() + wish_s)
        return wish_s

    def _claim_pause(self) -> ClaimPause | None:
        """Why nothing is to be claimed now, if so; from any thread."""
        return self.control.claim_pause()

    def _holds_back(self) -> bool:
        """Whether nothing is to be claimed now; a change of that is told once."""
        claim_pause = self._claim_pause()
        if claim_pause is not None and (self._logged_pause is None or self._logged_pause.word != claim_pause.word):
            self.logger.warning("Claiming nothing: {}", claim_pause.reason)
        elif claim_pause is None and self._logged_pause is not None:
            self.logger.info("Claiming again")
        self._logged_pause = claim_pause
        return claim_pause is not None

    def _stop_refused(self, error: NotAuthorized) -> None:
        """The backend does not accept the token any more: the next look at the loop ends the agent with `error`."""
        self._refused = error
        self.poke()

    def _notify_leaving(self) -> None:
        # For systemd a unit that is STOPPING has to end; one that is RELOADING is ready again later (sd_notify(3)).
        notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}" if self.is_to_start_again else "STOPPING=1")

    def _wind_down(self, signals: StopSignals) -> None:
        """Between the last poll and `cleanup`; what becomes of the runs."""

    def _on_wake(self, wake: Wake) -> None:
        """The backend has something for this agent."""
        if wake.work:
            self.poke()

    def _claim_token(self, flow_run: FlowRun) -> str:
        return self._token_for(flow_run.id)

    def _token_for(self, flow_run_id: str) -> str:
        return f"{self._identity}/{flow_run_id}"

    def _run_figures(self) -> list[dict[str, Any]]:
        """What runs here now, for the API."""
        return [{"id": run_id, "state": RunState.SUBMITTED.value} for run_id in sorted(self.submitting_flow_runs)]

    def _load(self) -> Load:
        """How much there is to do, for the API."""
        return Load(runs=len(self.submitting_flow_runs))

    def _note_contact(self) -> None:
        self._last_contact_s = time.monotonic()

    def _write_run_log(self, flow_run: FlowRun, message: str, level: int) -> None:
        """One line of the agent's own for the run's log; one that cannot be written is only told here."""
        if not self.log_to_cloud:
            return
        line = LogLine(
            flow_run_id=flow_run.id,
            at=datetime.now(timezone.utc),
            stream="flowherd",
            level=level,
            logger=self.name,
            message=message,
        )
        try:
            self.backend.write_logs([line])
        except BackendError as error:
            self.logger.warning("A line for the log of flow run {} is lost: {}", flow_run.id, error)

    # -- inside

    def _verify_token(self) -> None:
        if not self.loaded.settings.cloud.agent.auth_token:
            raise NotAuthorized(
                "no agent token: set PREFECT__CLOUD__AGENT__AUTH_TOKEN or auth_token under [cloud.agent]"
            )
        self.backend.check_token()

    def _connect(self) -> None:
        """Connect and register, unless that is done."""
        if self._capabilities is not None:
            return
        capabilities = self.backend.connect()
        self._note_contact()
        identity = AgentIdentity(type=type(self).__name__, name=self.name, labels=tuple(self.labels))
        try:
            agent_id = self.backend.register(identity)
        except NotAuthorized:
            raise
        except BackendRefused as error:  # a server of the 0.13 days does not register agents
            self.logger.debug("The backend does not register agents: {}", error)
        else:
            self.logger.debug("Registered as agent {}", agent_id)
        self._capabilities = capabilities
        self.logger.info("Connected to {} at {}; waiting for flow runs", capabilities.name, self.backend.address)
        if capabilities.wakes:
            threading.Thread(target=self._listen, name="wake", daemon=True).start()

    def _listen(self) -> None:
        """Wait for the backend's pokes until the agent stops."""
        seen = 0
        while not self._stopping.is_set():
            try:
                wake = self.backend.wait_for_wake(seen, _WAKE_WAIT_S)
                self._note_contact()
            except Exception as error:  # this thread must not end before the agent
                self.logger.debug("No wake connection, trying again: {!r}", error)
                wish_s = self._heed(error) if isinstance(error, BackendError) else 0.0
                self._stopping.wait(max(_WAKE_RETRY_S, wish_s))
                continue
            if wake.sequence != seen and not self._stopping.is_set():
                seen = wake.sequence
                self._on_wake(wake)
                # A server whose number changes with every question must not keep this thread busy.
                self._stopping.wait(_WAKE_PAUSE_S)
        self.backend.close()

    def _in_background(self, executor: ThreadPoolExecutor, work: Callable[[FlowRun], None], flow_run: FlowRun) -> None:
        self.submitting_flow_runs.add(flow_run.id)
        try:
            future = executor.submit(work, flow_run)
        except RuntimeError:  # the executor is shutting down
            self.submitting_flow_runs.discard(flow_run.id)
            raise
        future.add_done_callback(functools.partial(self.on_flow_run_deploy_attempt, flow_run_id=flow_run.id))

    def _deploy_claimed(self, flow_run: FlowRun) -> None:
        try:
            deployment = self.deploy_flow(flow_run)
        except Exception as error:  # the boundary of one run: whatever a platform raises fails this run alone
            self._give_up(flow_run, error)
            return
        self.logger.bind(run_id=flow_run.id, run=flow_run.name).info("Submitted for execution: {}", deployment)
        self._write_run_log(flow_run, f"Submitted for execution: {deployment}", logging.INFO)

    def _give_up(self, flow_run: FlowRun, error: Exception) -> None:
        self._write_run_log(flow_run, str(error) or repr(error), logging.ERROR)
        self.mark_failed(flow_run=flow_run, exc=error)

    def _settle_claims(self, executor: ThreadPoolExecutor) -> None:
        """Look up the claims that got no answer, and go on with those that were won."""
        settled = self._claims.settle(self.backend, self._claim_token, self.submitting_flow_runs)
        for flow_run, reason in settled.lost:
            self.logger.debug("Flow run {} is not ours: {}", flow_run.id, reason)
            self._forget_claim(flow_run)
        for flow_run in settled.won:
            self._in_background(executor, self._deploy_claimed, flow_run)

    def _forget_claim(self, flow_run: FlowRun) -> None:
        """The claim came to nothing."""
        self._claims.forget(flow_run.id)

    def _api_facts(self) -> ApiFacts:
        return ApiFacts(
            name=self.name,
            health=self.health,
            poke=self.poke,
            runs=self._run_figures,
            control=self.control,
            load=self._load,
        )


def _start_threads(executor: ThreadPoolExecutor, count: int) -> None:
    """Start all threads of the executor now.

    One that cannot be started later, for want of processes, would leave its work in the queue and yet report it as
    not taken: the flow run would be handed out again and be deployed by two threads at once.
    """
    together = threading.Barrier(count + 1)
    for _ in range(count):
        executor.submit(together.wait)
    together.wait()

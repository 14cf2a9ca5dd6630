"""The agent of one host: forks an isolated runner process per flow run, and looks after all of them.

Puts together what the layers below do (intent, fork server, watcher, courier) and adopts what an earlier agent left
running. docs/design.md, sections 2, 4 and 5, tell the life of a run; the methods here follow it in order.
"""

from __future__ import annotations

import functools
import os
import socket
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from flowherd.agent.agent import Agent
from flowherd.agent.control import Departure
from flowherd.agent.control_socket import ControlSocket
from flowherd.agent.health import ClaimPause
from flowherd.agent.http_api import Load
from flowherd.agent.shutdown import FLUSH_TIMEOUT_S, WindingDown
from flowherd.backends.protocol import Backend
from flowherd.config import LoadedSettings
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import outline, plan
from flowherd.engines.registry import engine_named
from flowherd.engines.run_environment import environment_for_runs
from flowherd.engines.runtimes import (
    EnginePackage,
    RuntimeRule,
    checked_rules,
    to_warm,
    warnings_about_versions,
    warnings_at_start,
)
from flowherd.errors import ClaimLost, ConfigurationError, DeployError, RunDirectoryDamaged, UnsupportedStorage
from flowherd.host import retention
from flowherd.host.adopt import Finding, conclude
from flowherd.host.delivery.courier import Courier, CourierSettings
from flowherd.host.limits import mebibytes
from flowherd.host.processes import cgroups
from flowherd.host.processes.fork_server import ForkServers
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.run_stats import figures
from flowherd.host.start import Intent, start
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd.host.watch import Watcher
from flowherd.recurring_error import RecurringError
from flowherd.signals import StopSignals
from flowherd.states import CLAIMABLE, RunState
from flowherd.values import EngineAccess, FlowRun, StoredState, Wake
from flowherd_runner.contract import faults, files, reasons
from flowherd_runner.contract.spec import RunLimits, RunSpec

#: How long an ended run's directory is kept when its log is nowhere else.
_KEEP_WITHOUT_CLOUD_LOGS_S = 7 * 86400.0
_SWEEP_INTERVAL_S = 600.0
#: No pause is cut shorter than this.
_SHORTEST_PAUSE_S = 0.2
#: What a run of ours that was never started may be in; Running when its start was told and not carried out.
_TO_BE_STARTED = frozenset({RunState.SUBMITTED, RunState.RUNNING})
#: A backend is asked so often within the time after which it counts as lost.
_ASKED_WITHIN_LIMIT = 4
#: In the state directory while the agent is paused.
_PAUSED_FILE = "paused"


class LocalAgent(Agent):
    """Deploys flow runs as isolated processes of this host.

    Beside the arguments of `Agent`:

    import_paths    directories that every flow run can import from
    show_flow_logs  mirror the runs' output on standard output
    hostname_label  add this host's name to the labels
    limit           flow runs at the same time; None is no limit
    """

    def __init__(
        self,
        name: str | None = None,
        labels: Iterable[str] | None = None,
        env_vars: Mapping[str, str] | None = None,
        import_paths: Iterable[str] | None = None,
        show_flow_logs: bool | None = None,
        hostname_label: bool | None = None,
        max_polls: int | None = None,
        agent_address: str | None = None,
        no_cloud_logs: bool = False,
        *,
        limit: int | None = None,
        settings: LoadedSettings | None = None,
        backend: Backend | None = None,
    ) -> None:
        super().__init__(
            name=name,
            labels=labels,
            env_vars=env_vars,
            max_polls=max_polls,
            agent_address=agent_address,
            no_cloud_logs=no_cloud_logs,
            settings=settings,
            backend=backend,
        )
        own = self.loaded.settings.agent
        self.import_paths = list(import_paths or own.import_paths)
        self.show_flow_logs = own.show_flow_logs if show_flow_logs is None else show_flow_logs
        self.limit = limit or own.limit
        host = socket.gethostname()
        if (own.hostname_label if hostname_label is None else hostname_label) and host not in self.labels:
            self.labels.append(host)
        self._registry = RunRegistry()
        #: Runs that are written down and whose runner was not started yet.
        self._intents: dict[str, Intent] = {}
        self._next_sweep_s = 0.0
        self._intending = RecurringError("claim flow runs, for none can be written down", self.logger)
        self._opening = threading.Lock()
        self._opened = False
        #: Working directory of the runs of some engines, when they name none.
        self._started_in = str(Path.cwd())
        self.control.usual_stop = own.on_stop or "detach"
        self._control_socket: ControlSocket | None = None

    # -- the parts, made when they are first needed

    @functools.cached_property
    def _state(self) -> StateDirectory:
        state = StateDirectory(self.loaded.paths.state_dir)
        self._identity = state.identity
        self.control.remember_pause_in(state.path / _PAUSED_FILE)
        return state

    @functools.cached_property
    def _fork_servers(self) -> ForkServers:
        try:
            variables = self.backend.engine_variables()
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            variables = {}
        of_all_runs = {**self.env_vars, **variables} if variables else {}
        return ForkServers(self._state.path, environment_for_runs(os.environ), of_all_runs)

    @functools.cached_property
    def _package(self) -> EnginePackage | None:
        """What the runs need that the backend hands out; None when any Python will do."""
        try:
            name = self.backend.engine
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            return None
        return engine_named(name).package

    @functools.cached_property
    def _runtimes(self) -> tuple[RuntimeRule, ...]:
        settings = self.loaded.settings
        return checked_rules(settings.runtimes, environment_for_runs(os.environ), self._package)

    @functools.cached_property
    def _cgroups(self) -> cgroups.Cgroups | None:
        found = cgroups.find_delegated() if self.loaded.settings.agent.cgroup == "auto" else None
        if found is not None:
            found.sweep()
            self.logger.debug("Runs get cgroups below {}, controllers: {}", found.parent, sorted(found.controllers))
        return found

    @functools.cached_property
    def _watcher(self) -> Watcher:
        return Watcher(self._registry, self.loaded.settings.agent.watch_interval, self._run_ended)

    @functools.cached_property
    def _courier(self) -> Courier:
        cloud = self.loaded.settings.cloud
        settings = CourierSettings(
            log_interval_s=cloud.logging_heartbeat,
            heartbeat_interval_s=cloud.heartbeat_interval,
            cancellation_interval_s=cloud.check_cancellation_interval,
            send_logs=self.log_to_cloud,
            mirror=self.show_flow_logs,
        )
        return Courier(
            self._registry, self.backend, settings, self._run_delivered, self._note_contact, self._stop_refused
        )

    # -- start

    def setup(self) -> None:
        """Open the state directory, adopt what lives in it, warm the fork servers, and connect.

        Raises StateDirectoryBusy when another agent has the state directory, ConfigurationError when a runtime of the
        settings cannot serve.
        """
        self._open()
        self._serve_control()
        super().setup()

    def _open(self) -> None:
        with self._opening:
            if self._opened:
                return
            self.logger.debug("State directory {}", self._state.path)
            rules = self._runtimes
            self._adopt_all()
            settings = self.loaded.settings
            for warning in warnings_at_start(self._package, rules):
                self.logger.warning("{}", warning)
            for runtime in to_warm(rules, settings.agent.preload, self._package):
                self._fork_servers.get(runtime)
            self._watcher.start()
            self._courier.start()
            self._opened = True

    def _connect(self) -> None:
        before = self._capabilities
        super()._connect()
        if self._capabilities is None or self._capabilities is before:
            return
        for warning in warnings_about_versions(self._package, self._capabilities.engine_version, self._runtimes):
            self.logger.warning("{}", warning)

    def _serve_control(self) -> None:
        try:
            self._control_socket = ControlSocket(self._state.path, self._api_facts())
            self._control_socket.start()
        except OSError as error:  # the agent works without it; those who want to talk to it use --agent-address
            self.logger.warning("No control socket in {}: {}", self._state.path, error)

    def _adopt_all(self) -> None:
        for directory in self._state.found_runs():
            try:
                self._adopt(directory)
            except Exception as error:  # a bad run fails alone; what is left of it stays for a person to look at
                self.logger.bind(run_id=directory.flow_run_id).error("Cannot take over the run: {!r}", error)
        foreign_names = self._state.foreign_names()
        if foreign_names:
            self.logger.warning("Left alone in {}, no run directories: {}", self._state.runs, foreign_names[:10])

    def _adopt(self, directory: RunDirectory) -> None:
        """Take over one run of an earlier agent, by the table of docs/design.md, section 5."""
        for name in directory.quarantine_foreign_files():
            self.logger.bind(run_id=directory.flow_run_id).warning("Set aside {}, it is no regular file", name)
        if directory.is_abandoned() and retention.remove(directory):
            return
        run = self._run_of_earlier_agent(directory)
        if run.delivered:
            return
        lock_fd = directory.try_lock()
        # Whether the records can be used is found out where the run's end is concluded: runs/ending.py.
        finding = conclude(
            lock_held=lock_fd is None,
            # Its log says already how it ended: it is not started after that.
            exit_recorded=run.ended or directory.had(files.EXIT_FILE) or directory.end_is_told(),
            started=directory.had(files.STARTED_FILE),
        )
        run.log.info("Found a run of an earlier agent: {}", finding.value, action="adopt")
        if finding is Finding.NEVER_RAN and lock_fd is not None:
            self._intents[run.id] = Intent(run=run, lock_fd=lock_fd)
            return
        if lock_fd is not None:
            os.close(lock_fd)
        self._watch(run)

    def _run_of_earlier_agent(self, directory: RunDirectory) -> Run:
        """The run with what its directory says of it; a damaged spec or outbox costs only what it said."""
        log = self.logger.bind(run_id=directory.flow_run_id)
        try:
            spec = directory.spec()
        except RunDirectoryDamaged as error:
            log.warning("{}", error)
            spec = RunSpec(flow_run_id="")
        # A directory of ours is a claim of ours, or was to become one, whatever its spec says.
        if spec.flow_run_id != directory.flow_run_id:
            spec = RunSpec(flow_run_id=directory.flow_run_id)
        if not spec.agent.claim.endswith(f"/{directory.flow_run_id}"):
            spec = spec._replace(agent=spec.agent._replace(claim=self._token_for(directory.flow_run_id)))
        try:
            return Run(directory, spec, self._wake_courier)
        except RunDirectoryDamaged as error:
            log.warning("Set aside, all is reported again: {}", error)
            directory.set_aside(files.OUTBOX_FILE)
            return Run(directory, spec, self._wake_courier)

    # -- poll

    def query_flow_runs(self) -> list[FlowRun]:
        """The flow runs that are due and for which there is room, without those that live here already."""
        here = {run.id for run in self._registry}
        room = self._room()
        # Asked without room too: so the backend knows that the agent is there, and the agent that the backend is.
        found = [flow_run for flow_run in super().query_flow_runs() if flow_run.id not in here]
        if room is not None and len(found) > room:
            self.logger.debug("No room for all: {} due, room for {} of {}", len(found), room, self.limit)
        return found[:room]

    # -- intent and claim

    def update_state(self, flow_run: FlowRun) -> None:
        """Write down what is to be run, then claim it.

        Raises ClaimLost when another agent has the flow run, or when this host has no room on its disk for it.
        """
        self._open()
        if flow_run.id not in self._intents:
            try:
                self._intents[flow_run.id] = self._intend(flow_run)
                faults.point("after-intent")
            except (OSError, RunDirectoryDamaged) as error:
                self._intending.failed(error)
                raise ClaimLost(f"not claimed: {error}") from error
            self._intending.recovered()
        super().update_state(flow_run)

    def _intend(self, flow_run: FlowRun) -> Intent:
        claim = self._claim_token(flow_run)
        failure: UnsupportedStorage | None = None
        try:
            spec = plan(flow_run, self._defaults(), claim)
        except UnsupportedStorage as error:  # claimed all the same, so that the run's end can say so
            spec, failure = outline(flow_run, claim), error
        if self._cgroups is not None:
            spec = spec._replace(cgroup=str(self._cgroups.path_for(flow_run.id, spec.agent.attempt)))
        directory = self._state.run_directory(flow_run.id)
        lock_fd = directory.create(spec)
        run = Run(directory, spec, self._wake_courier)
        run.failure = failure
        return Intent(run=run, lock_fd=lock_fd)

    def _defaults(self) -> AgentDefaults:
        settings = self.loaded.settings
        return AgentDefaults(
            env_vars=self.env_vars,
            import_paths=self.import_paths,
            limits=RunLimits(**settings.runs.limits.model_dump()),
            preload=settings.agent.preload,
            runtimes=self._runtimes,
            grace_s=settings.agent.grace,
            max_line_bytes=settings.runs.max_line_bytes,
            max_journal_bytes=settings.runs.max_journal_bytes,
            access=self._engine_access(),
            api_flavour=settings.backend,
            labels=self.labels,
            started_in=self._started_in,
            python_path=os.environ.get("PYTHONPATH", ""),
        )

    def _engine_access(self) -> EngineAccess | None:
        try:
            return self.backend.engine_access()
        except ConfigurationError:  # no backend, as for an agent that is only asked to deploy
            return None

    def _forget_claim(self, flow_run: FlowRun) -> None:
        super()._forget_claim(flow_run)
        intent = self._intents.pop(flow_run.id, None)
        if intent is not None:
            intent.drop()

    def _settle_claims(self, executor: ThreadPoolExecutor) -> None:
        """Also the claims of an earlier agent that was gone before it could start their runs."""
        super()._settle_claims(executor)
        skip = self.submitting_flow_runs | set(self._claims.uncertain)
        found = {run_id: intent for run_id, intent in list(self._intents.items()) if run_id not in skip}
        if not found:
            return
        stored = self._stored_claims([intent.run for intent in found.values()])
        for run_id, intent in found.items():
            self._settle_found(intent, stored.get(run_id))

    def _stored_claims(self, runs: Collection[Run]) -> dict[str, StoredState]:
        """What says who has these runs: their own states, or those of the task runs through which they were taken."""
        stored = self.backend.stored_states([run.id for run in runs if not run.claimed_via_task_run])
        tasks = self.backend.stored_task_states([run.claimed_via_task_run for run in runs if run.claimed_via_task_run])
        through = {run.id: tasks[run.claimed_via_task_run] for run in runs if run.claimed_via_task_run in tasks}
        return {**stored, **through}

    def _settle_found(self, intent: Intent, stored: StoredState | None) -> None:
        run = intent.run
        if stored is not None and stored.state in CLAIMABLE:
            return  # not claimed yet; the claim may be under way, and the queue hands the run out again
        if stored is not None and stored.claim == run.claim and stored.state is RunState.CANCELLING:
            self._watch(run)
            self._fail(run, DeployError("It was cancelled before it could be started."))
            return
        if stored is None or stored.claim != run.claim or stored.state not in _TO_BE_STARTED:
            run.log.info("Not ours, or ended meanwhile; dropped", action="drop")
            self._drop(intent)
            return
        try:
            self.backend.confirm_claim(run.id, run.claim)
        except ClaimLost as error:
            run.log.info("Claimed too late, and dropped: {}", error, action="drop")
            self._drop(intent)
            return
        run.starting = True
        self._watch(run)
        try:
            self._start_runner(intent)
        except Exception as error:  # the boundary of one run
            self._fail(run, error)

    def _drop(self, intent: Intent) -> None:
        del self._intents[intent.run.id]
        intent.drop()

    # -- deploy

    def deploy_flow(self, flow_run: FlowRun) -> str:
        """Start the flow run's runner; its process is named in what this returns, as in "PID: 1234".

        Raises UnsupportedStorage, which is a ValueError, for a flow that this agent cannot run, and DeployError when
        the runner cannot be started.
        """
        intent = self._intents.get(flow_run.id)
        if intent is None:  # called without a claim of ours before: then a refusal leaves no trace
            plan(flow_run, self._defaults(), self._claim_token(flow_run))
            self._open()
            intent = self._intents[flow_run.id] = self._intend(flow_run)
        intent.run.starting = True
        self._watch(intent.run)
        if intent.run.failure is not None:
            raise intent.run.failure
        return f"PID: {self._start_runner(intent) or 'not known yet'}"

    def _start_runner(self, intent: Intent) -> int | None:
        def handed_on() -> None:
            del self._intents[intent.run.id]
            self._watcher.wake()

        return start(intent, self._fork_servers, handed_on)

    def mark_failed(self, flow_run: FlowRun, exc: BaseException) -> None:
        """The run could not be started. Its end goes the way of every run's end, so it survives a silent backend."""
        run = self._registry.get(flow_run.id)
        if run is None:
            super().mark_failed(flow_run, exc)
            return
        self.logger.error("Flow run {} could not be deployed: {!r}", flow_run.id, exc)
        self._fail(run, exc)

    def _fail(self, run: Run, error: BaseException) -> None:
        run.failure = error
        intent = self._intents.pop(run.id, None)
        if intent is not None:
            intent.release()
        run.starting = False  # now the watcher finds a run that never ran
        self._watcher.wake()

    def _write_run_log(self, flow_run: FlowRun, message: str, level: int) -> None:
        run = self._registry.get(flow_run.id)
        if run is None:
            super()._write_run_log(flow_run, message, level)
        elif self.log_to_cloud:
            run.note(message, level, "deployed", run.deployed_at)

    # -- watch, forward, end

    def heartbeat(self) -> None:
        """Remove the directories of runs that ended long enough ago; end runs whose backend is away too long."""
        if time.monotonic() >= self._next_sweep_s:
            self._next_sweep_s = time.monotonic() + _SWEEP_INTERVAL_S
            retention.sweep(self._state.found_runs(), self._keep_s, self._is_in_use)
        self._end_lost_contact()
        super().heartbeat()

    def _watch(self, run: Run) -> None:
        """From now on watcher and courier do."""
        self._registry.add(run)
        self._wake_courier()

    def _wake_courier(self) -> None:
        self._courier.wake()

    def _run_ended(self, run: Run) -> None:
        self._courier.wake()
        if self.limit is not None:
            self.poke()

    def _run_delivered(self, run: Run) -> None:
        if self._keep_s == 0:
            run.directory.remove()
        self._registry.remove(run)
        self._waker.wake()

    @property
    def _keep_s(self) -> float:
        keep_s = self.loaded.settings.runs.keep
        if keep_s is not None:
            return keep_s
        return 0.0 if self.log_to_cloud else _KEEP_WITHOUT_CLOUD_LOGS_S

    def _is_in_use(self, flow_run_id: str) -> bool:
        return flow_run_id in self._registry or flow_run_id in self._intents

    def _on_wake(self, wake: Wake) -> None:
        if wake.ends:
            self._courier.look_for_cancellations()
        if self._room() != 0:  # else the end of a run leads to the next look
            super()._on_wake(wake)

    def _room(self) -> int | None:
        """For so many more runs; None is for any number."""
        if self.limit is None:
            return None
        busy = len({run.id for run in self._registry.living()} | set(self.submitting_flow_runs))
        return max(0, self.limit - busy)

    def _run_figures(self) -> list[dict[str, Any]]:
        return [figures(run) for run in self._registry.living()]

    # -- what holds it back

    def _claim_pause(self) -> ClaimPause | None:
        """Also when the backend is so far behind that the output of the runs fills the disk."""
        asked = super()._claim_pause()
        cap = self.loaded.settings.runs.max_spool_bytes
        if asked is not None or cap is None:
            return asked
        spool_bytes = self._spool_bytes()
        if spool_bytes <= cap:
            return None
        words = f"{mebibytes(spool_bytes)} of output wait for the backend, runs.max_spool_bytes is {mebibytes(cap)}"
        return ClaimPause(word="spool full", reason=words)

    def _spool_bytes(self) -> int:
        if not self.log_to_cloud:
            return 0
        return sum(run.directory.unsent_bytes() for run in self._registry if run.sends_logs)

    def _load(self) -> Load:
        return Load(runs=len(self._registry.living()), limit=self.limit, spool_bytes=self._spool_bytes())

    def _silent_s(self) -> float:
        """Seconds since the backend last answered, or since the agent started."""
        return time.monotonic() - (self._started_s if self._last_contact_s is None else self._last_contact_s)

    def _checked_pause_s(self, pause_s: float) -> float:
        """Short enough to ask the backend several times before it counts as away too long."""
        limit_s = self.loaded.settings.cloud.lost_contact_limit
        pause_s = super()._checked_pause_s(pause_s)
        return pause_s if limit_s is None else min(pause_s, max(_SHORTEST_PAUSE_S, limit_s / _ASKED_WITHIN_LIMIT))

    def _end_lost_contact(self) -> None:
        limit_s = self.loaded.settings.cloud.lost_contact_limit
        # Silence alone proves nothing: an agent that was suspended for a while has not asked.
        if limit_s is None or self._silent_s() < limit_s or not self._failed_polls:
            return
        words = f"The backend had not answered for {limit_s:g} s, the limit of cloud.lost_contact_limit."
        for run in self._registry.living():
            run.ask_to_stop(reasons.REASON_LOST_CONTACT, words)

    # -- stop

    def _wind_down(self, signals: StopSignals) -> None:
        """What was asked for, else on_stop; then the last words of the runs go out."""
        self.control.leave(Departure())  # unless that was asked for: the polls were over
        winding_down = WindingDown(self._registry, signals, self._waker, self._beat, self.control.instance)
        winding_down.carry_out(self.control.departure or Departure(), self.loaded.settings.agent.drain_deadline)
        winding_down.wait(lambda: self._courier.idle() or not self.health().well, FLUSH_TIMEOUT_S)

    def cleanup(self) -> None:
        """Stop what `setup` started, in the opposite order; the runs go on."""
        left = self._registry.living()
        if left:
            self.logger.info(
                "Leaving {} flow run(s) running; the next agent on {} adopts them", len(left), self._state.path
            )
        if self._control_socket is not None:
            self._control_socket.stop()
        if self._opened:
            self._courier.close()
            self._watcher.close()
        if "_fork_servers" in self.__dict__:
            self._fork_servers.close()
        for intent in self._intents.values():
            intent.release()
        self._intents.clear()
        if "_state" in self.__dict__:
            self._state.close()
        super().cleanup()

"""The flow runs of this machine, from the written intent to the delivered end: the platform of a `LocalAgent`.

Puts the parts beside this module together; docs/design.md, sections 4 and 5, tells the life of a run in their order.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Collection, Sequence
from pathlib import Path

from loguru import logger

from flowherd.agent.health import ClaimPause
from flowherd.agent.platform import Figures, Prepared
from flowherd.agent.shutdown import ShutdownRequest, ShutdownWait
from flowherd.backends.protocol import ServerCapabilities
from flowherd.config import LoadedSettings
from flowherd.engines.base import AgentDefaults
from flowherd.engines.plan import plan
from flowherd.errors import AgentStopping, ClaimLost, DeployError, RunDirectoryDamaged
from flowherd.host.adopt import adopt_runs
from flowherd.host.agent_ties import AgentTies
from flowherd.host.delivery.courier import Courier, CourierSettings
from flowherd.host.ended_runs import EndedRuns
from flowherd.host.host_reload import HostReload
from flowherd.host.intent import Intent, write_intent
from flowherd.host.isolation_floor import check_floor
from flowherd.host.limits import SpoolLimit
from flowherd.host.processes.cgroup_figures import own_memory_bytes
from flowherd.host.retention import Retention
from flowherd.host.run import Run
from flowherd.host.run_registry import RunRegistry
from flowherd.host.run_surroundings import HostOptions, RunSurroundings
from flowherd.host.state_upkeep import StateUpkeep
from flowherd.host.stop_runs import end_without_contact, stop_runs
from flowherd.host.store.state_directory import StateDirectory
from flowherd.host.unstarted import UnstartedRuns
from flowherd.host.watch import Watcher
from flowherd.recurring_error import RecurringError
from flowherd.values import FlowRun, Wake, claim_token
from flowherd_runner.contract.spec import RunSpec

#: How long the threads that deliver and watch may take to end, seconds; they may wait for an answer of the backend.
_CLOSE_TIMEOUT_S = 0.5


class Host(HostReload):
    """Keeps the runs of one state directory. Opened with the first use, so that making an agent touches nothing."""

    def __init__(self, loaded: LoadedSettings, ties: AgentTies) -> None:
        self._loaded = loaded
        self._ties = ties
        self._connection = ties.connection
        self._surroundings = RunSurroundings(loaded, ties.options, ties.connection)
        self._registry = RunRegistry()
        self._unstarted = UnstartedRuns(lambda: self._surroundings.fork_servers, lambda: self._watcher)
        self._preparing = RecurringError("claim flow runs, because none can be written down", logger)
        self._opening = threading.Lock()
        self._opened = False

    @property
    def _options(self) -> HostOptions:
        return self._ties.options()

    # -- the parts, made when they are first needed

    @functools.cached_property
    def _state(self) -> StateDirectory:
        return StateDirectory(self._loaded.paths.state_dir)

    @functools.cached_property
    def _retention(self) -> Retention:
        keep_s, send_logs = self._loaded.settings.runs.keep, self._options.send_logs
        return Retention.of(self._state, keep_s, self._is_in_use, send_logs=send_logs)

    @functools.cached_property
    def _ended(self) -> EndedRuns:
        parts = (self._retention, self._upkeep.survivors, self._courier.add_late_line, self._state.blanks.refill)
        return EndedRuns(self._is_in_use, *parts)

    @functools.cached_property
    def _upkeep(self) -> StateUpkeep:
        return StateUpkeep(self._state, self._retention)

    @functools.cached_property
    def _spool(self) -> SpoolLimit:
        measure = lambda: self._registry.unsent_bytes(self._options.send_logs)  # noqa: E731
        return SpoolLimit(self._loaded.settings.runs.max_spool_bytes, measure)

    @functools.cached_property
    def _watcher(self) -> Watcher:
        interval_s = self._loaded.settings.agent.watch_interval
        return Watcher(self._registry, interval_s, self._run_ended, self._upkeep.survivors.add)

    @functools.cached_property
    def _courier(self) -> Courier:
        options, ended = self._options, self._run_delivered
        settings = CourierSettings.of(self._loaded.settings, send_logs=options.send_logs, mirror=options.mirror)
        return Courier(self._registry, self._connection, settings, ended, self._is_in_use, self._state.path)

    def defaults(self) -> AgentDefaults:
        """Return what the agent gives to every run whose flow does not choose otherwise."""
        return self._surroundings.defaults()

    # -- opening and closing

    @property
    def identity(self) -> str:
        """Who the agent is in its claim tokens; kept in the state directory."""
        return self._state.identity

    @property
    def state_dir(self) -> Path | None:
        """The state directory."""
        return self._loaded.paths.state_dir

    def open(self) -> None:
        """Open the state directory, adopt what lives in it, and warm the fork servers; does nothing when called again.

        Raises StateDirectoryBusy when another agent has the state directory, ConfigurationError when a runtime of the
        settings cannot serve.
        """
        with self._opening:
            if self._opened:
                return
            logger.debug("State directory {}", self._state.path)
            self._surroundings.check_runtimes()
            self._surroundings.check_isolation()
            adopted = adopt_runs(self._state, self._retention, self._courier.wake_soon)
            for intent in adopted.intents:
                self._unstarted.add(intent)
            for run in adopted.runs:
                self._watch(run)
            for run in adopted.unsearched:
                self._ended.adopt(run)
            self._surroundings.warm()
            self._watcher.start()
            self._courier.start()
            self._opened = True

    def connected(self, capabilities: ServerCapabilities) -> None:
        """Warn of runtimes that are later than the server."""
        self._surroundings.warn_of_later_than(capabilities.engine_version)

    def close(self) -> None:
        """Stop what `open` started, in the opposite order; the runs go on."""
        if left := self._registry.living():
            logger.info("Leaving {} flow run(s) running; the next agent on {} adopts them", len(left), self._state.path)
        self.begin_closing()
        ended = [one.close(_CLOSE_TIMEOUT_S) for one in self._threads()]
        self._surroundings.close()
        self._unstarted.release()
        if all(ended):
            self._release_state_directory()
        else:  # a request is still under way: no other agent may deliver the same meanwhile
            threading.Thread(target=self._release_state_directory, name="close", daemon=True).start()

    # -- before the claim

    def holds(self, flow_run_id: str) -> bool:
        """Return whether the flow run lives here already."""
        return flow_run_id in self._registry

    def room(self, deploying: Collection[str]) -> int | None:
        """Return for how many more runs there is room; None means any number."""
        if self._options.limit is None:
            return None
        busy = len({run.id for run in self._registry.living()} | set(deploying))
        return max(0, self._options.limit - busy)

    def pause_reason(self) -> ClaimPause | None:
        """Pause when the state directory was lost, or when the output that the backend lacks fills the disk."""
        if self._opened and self._upkeep.lost is not None:
            return self._upkeep.lost
        return self._spool.pause()

    def prepare(self, flow_run: FlowRun, claim: str) -> None:
        """Write down what is to be run. Raises ClaimLost when this host has no room on its disk for it."""
        self.open()
        if flow_run.id in self._unstarted:
            return
        self._courier.refuse_ended(flow_run)
        try:
            self._unstarted.add_ahead(self._write_intent(flow_run, claim))
        except (OSError, RunDirectoryDamaged) as error:
            self._preparing.failed(error)
            raise ClaimLost(f"not claimed: {error}") from error
        self._preparing.recovered()

    def abandon(self, flow_run_id: str) -> None:
        """Remove the directory of a flow run that is not ours after all."""
        self._unstarted.abandon(flow_run_id)

    def unfinished(self) -> Sequence[Prepared]:
        """Return the runs that are written down and were not started."""
        return self._unstarted.prepared()

    # -- start

    def deploy(self, flow_run: FlowRun) -> str:
        """Start the flow run's runner; names its process in what it returns, as in "PID: 1234".

        Raises UnsupportedStorage, which is a ValueError, for a flow that this agent cannot run, and DeployError when
        the runner cannot be started.
        """
        intent = self._unstarted.get(flow_run.id)
        if intent is None:  # called without `prepare`: a refusal then leaves no trace
            self._describe(flow_run, "")
            self.open()
            claim = claim_token(self.identity, flow_run.id)
            intent = self._unstarted.add(self._write_intent(flow_run, claim))
        intent.run.begin_start()
        self._watch(intent.run)
        if intent.run.failure is not None:
            raise intent.run.failure
        return f"PID: {self._unstarted.start(intent) or 'not known yet'}"

    def start_prepared(self, flow_run_id: str) -> None:
        """Start a run that an earlier agent claimed. If it cannot be started, the run fails with the reason."""
        if (intent := self._unstarted.get(flow_run_id)) is None:
            return
        intent.run.begin_start()
        self._watch(intent.run)
        try:
            check_floor(intent.run.spec.isolation, self._surroundings.floor)
            self._unstarted.start(intent)
        except AgentStopping as error:
            intent.run.log.info("Left to the next agent: {}", error)
        except Exception as error:  # the boundary of one run
            self._fail(intent.run, error)

    def fail_prepared(self, flow_run_id: str, error: BaseException) -> None:
        """Conclude a run that is not to be started any more."""
        if (intent := self._unstarted.get(flow_run_id)) is not None:
            self._watch(intent.run)
            self._fail(intent.run, error)

    def fail(self, flow_run: FlowRun, error: BaseException) -> bool:
        """Conclude a run that could not be started. Its end is delivered like every other end, so it is not lost."""
        if (run := self._registry.get(flow_run.id)) is not None:
            self._fail(run, error)
        return run is not None

    def note(self, flow_run: FlowRun, text: str, level: int) -> bool:
        """Add a line to the log of a run that lives here."""
        if (run := self._registry.get(flow_run.id)) is not None:
            run.note(text, level, "deployed", run.deployed_at)
        return run is not None

    # -- regular work

    def tick(self, silent_s: float) -> None:
        """Keep the state directory in order; end runs whose backend was silent too long."""
        self._surroundings.end_idle_fork_servers()
        self._unstarted.withdraw_waiting()
        self._upkeep.tick()
        end_without_contact(self._registry, silent_s, self._loaded.settings.cloud.lost_contact_limit)

    def woken(self, wake: Wake) -> None:
        """Look for runs to end, if the backend has any."""
        if wake.ends:
            self._courier.look_for_cancellations()

    def figures(self) -> Figures:
        """Return how much there is to do."""
        living, waits = len(self._registry.living()), self._surroundings.preloading()
        options, unsent = self._options, self._registry.unsent_bytes(self._options.send_logs)
        own = own_memory_bytes()
        return Figures(runs=living, limit=options.limit, spool_bytes=unsent, preloading=waits, own_memory_bytes=own)

    # -- stop

    def begin_closing(self) -> None:
        """Start no more runs, and end all waits for interpreters and fork servers."""
        self._unstarted.begin_closing()
        self._surroundings.begin_closing()

    def shut_down(self, request: ShutdownRequest, wait: ShutdownWait) -> None:
        """Leave, drain or end the runs; then wait a moment for their last logs and states to be delivered."""
        usual_s = self._loaded.settings.agent.drain_deadline
        stop_runs(self._registry, request, wait, usual_s, self._ties.instance, self._end_starts)
        wait.flush(lambda: self._courier.idle() or not self._connection.is_reachable())

    # -- inside

    def _threads(self) -> tuple[Courier | Watcher | EndedRuns, ...]:
        return (self._courier, self._watcher, self._ended) if self._opened else ()

    def _release_state_directory(self) -> None:
        for one in self._threads():
            one.close(None)
        if "_state" in self.__dict__:
            self._state.close()

    def _write_intent(self, flow_run: FlowRun, claim: str) -> Intent:
        self._ended.starts_again(flow_run.id)
        cgroup_for, changed = self._surroundings.cgroup_for, self._courier.wake_soon
        return write_intent(flow_run, claim, self._state, cgroup_for, self._describe, changed)

    def _describe(self, flow_run: FlowRun, claim: str) -> RunSpec:
        chosen = self._ties.choices(flow_run)
        return plan(flow_run, self._surroundings.defaults(chosen.variables), claim, chosen.run_config)

    def _end_starts(self, fail: bool) -> None:
        """Start no more runs. Those that were claimed and not started fail, or are left to the next agent."""
        self.begin_closing()
        for run in self._unstarted.given_up():
            if run.id in self._registry and fail:
                self._fail(run, DeployError("The agent was stopped before the flow run could be started."))
            else:
                self._registry.remove(run)

    def _fail(self, run: Run, error: BaseException) -> None:
        if (intent := self._unstarted.take(run.id)) is not None:
            intent.release()
        run.fail_to_start(error)
        self._watcher.wake()

    def _watch(self, run: Run) -> None:
        """Hand the run over to watcher and courier."""
        self._registry.add(run)
        self._courier.run_added()

    def _run_ended(self, run: Run) -> None:
        self._courier.wake()
        self._ended.ended(run)
        if self._options.limit is not None or self._options.limits_labels:
            self._ties.has_room()

    def _run_delivered(self, run: Run) -> None:
        if not self._unstarted.start_again(run, self._watch, self._courier.wake_soon, self._ended.starts_again):
            self._ended.delivered(run)
            self._registry.remove(run)
            self._ended.wake()
            self._ties.wake()

    def _is_in_use(self, flow_run_id: str) -> bool:
        return flow_run_id in self._registry or flow_run_id in self._unstarted

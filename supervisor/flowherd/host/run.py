"""One flow run on this host: its phase, its processes, and the reports that the backend does not have yet.

Every change of the phase goes through `Run._enter` (table in run_phase.py), every change of the state through
`Run._move` (table in flowherd.states). Three threads use a `Run` one after another: the deploying thread creates it,
the watcher concludes its end, and the courier delivers its reports.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from signal import SIGTERM
from typing import Any

from loguru import logger

from flowherd.host.processes import cgroups
from flowherd.host.processes.flock import is_runner, only_runner
from flowherd.host.processes.process_tree import ProcessTree, Usage
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run_history import HistoryOnHost
from flowherd.host.run_meter import RunMeter
from flowherd.host.run_phase import LIVING, RunEvent, RunPhase
from flowherd.host.run_phase import after as after_event
from flowherd.host.stop_request import StopRequest
from flowherd.host.store.outbox import Outbox
from flowherd.host.store.records import Started
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.survivors import Survivor
from flowherd.host.verdict import Verdict
from flowherd.recurring_error import RecurringError
from flowherd.states import EVENT_OF_REPORT, Event, RunState, after
from flowherd.values import LogLine, StateReport
from flowherd_runner.contract import identity
from flowherd_runner.contract.spec import RunSpec

#: Time after the grace time in which the runner must end the tree and write its record, seconds.
_RUNNER_MARGIN_S = 5.0


class Run:
    """Owns the phase, the state and the pending reports of one flow run.

    `spec` is the usable part of its spec.json: damaged fields have their default values.
    """

    def __init__(self, directory: RunDirectory, spec: RunSpec, changed: Callable[[], None]) -> None:
        self.id = directory.flow_run_id
        self.directory = directory
        self.spec = spec
        self.name = spec.flow_run_name or self.id
        self.flow_name = spec.flow_name
        self.claim = spec.agent.claim
        #: Id of the task run that the claim was made on; empty if it was made on the flow run itself.
        self.claimed_via_task_run = spec.agent.claimed_via_task_run
        #: Version of the flow run's state that was claimed; None if not known.
        self.claimed_version = spec.agent.claimed_version
        #: Id of this start of the flow run.
        self.attempt = spec.agent.attempt
        #: Whether the flow's own engine reports its states; the agent then reports only what the engine could not.
        self.has_engine = spec.agent.has_engine
        #: Whether the agent reports the run's start to the backend.
        self.reports_start = spec.agent.reports_start
        #: Whether output and log are sent to the backend.
        self.sends_logs = spec.agent.send_logs
        #: Whether the output may be shown on the agent's terminal.
        self.shows_output = spec.agent.show_output
        #: Time between asking the flow to end and killing it, seconds.
        self.grace_s = spec.grace_s
        #: Limits on what the run may use, from its spec.
        self.limits = spec.limits
        #: The run's own cgroup; None if it has none.
        self.cgroup = cgroups.checked_path(spec.cgroup, self.id)
        self.runner: RunnerProcess | None = None
        self.flow_pid: int | None = None
        #: Pid of the first process of the run's pid namespace; None if it has none, or not yet.
        self.init_pid: int | None = None
        #: Exit code of the flow process, negative for a signal; None before the end, and if it left none.
        self.exit_status: int | None = None
        self.tree, self.meter = ProcessTree(usage=Usage()), RunMeter()
        #: What happened to it and what it used, for the account of its end.
        self.history = HistoryOnHost(directory.path)
        self.stop: StopRequest | None = None
        #: Whether this is a second start of the directory, after the run's end was reported.
        self.is_after_end = spec.agent.after_end
        #: The end as it was reported to the backend; None if it was not, because the run's own engine had reported it.
        self.reported_end: StateReport | None = None
        #: Why the runner could not be started.
        self.failure: BaseException | None = None
        #: Processes of the run that could not be ended, as found when its end was concluded.
        self.survivors: list[Survivor] = []
        #: Whether the host is still to be searched for strays of the run (stray_search.py).
        self.owes_search = False
        #: When the flow process started, from the runner's record; None if not known.
        self._started_at: datetime | None = None
        self.deployed_at = datetime.now(timezone.utc)
        own = logger.bind(run_id=self.id, run=self.name, flow=self.flow_name)
        self.log = own.patch(lambda record: record["extra"].setdefault("state", self.state.value))
        self.watching = RecurringError("watch the run", self.log)
        self.delivering = RecurringError("deliver the run's log and states", self.log)
        self._outbox = directory.outbox()
        self._phase = _phase_of(self._outbox)
        self._notes: list[LogLine] = []
        self._lock = threading.RLock()
        self._changed = changed

    @property
    def phase(self) -> RunPhase:
        """The run's phase on this host."""
        return self._phase

    @property
    def ended(self) -> bool:
        """Whether the run's end has been concluded."""
        return self._phase not in LIVING

    @property
    def state(self) -> RunState:
        """The flow run's state, even if the backend does not know it yet."""
        return self._outbox.state

    @property
    def started_at(self) -> datetime | None:
        """When the flow process started; None if it did not, or if that is not known."""
        return self._started_at

    # -- start

    def begin_start(self) -> None:
        """Note that a fork server is about to be asked for the runner."""
        self._enter(RunEvent.START)

    def hand_over(self) -> None:
        """Note that a runner has the lock. A stop that was requested before this takes effect now."""
        with self._lock:
            self._enter(RunEvent.HAND_OVER)
            if self.stop is not None:
                self._enter(RunEvent.STOP)

    def resume(self) -> None:
        """Note that an earlier agent handed this run over to a runner."""
        self.begin_start()
        self.hand_over()

    def fail_to_start(self, error: BaseException) -> None:
        """Note why the runner could not be started. If it was started nevertheless, its own records decide the end."""
        with self._lock:
            self.failure = error
            if self._phase in (RunPhase.PREPARED, RunPhase.STARTING):
                self._enter(RunEvent.FAIL_TO_START)

    # -- processes

    def attach(self, started: Started) -> None:
        """Watch the runner that `started` names.

        Raises ProcessLookupError if it has ended, or if that process is not this run's runner: then it got the runner's
        pid after a reboot, or a damaged file names it.
        """
        if started.boot_id != identity.boot_id() or not is_runner(started.pid, self.id, self.directory.path):
            raise ProcessLookupError(f"process {started.pid} is not the runner of run {self.id}")
        self.flow_pid, self.init_pid = started.flow_pid, started.init_pid
        self.take_runner(RunnerProcess(started.pid, started.start_ticks))

    def find_runner(self) -> None:
        """Watch the runner that holds the run's lock. For when `started` does not name it; looks at all processes.

        Raises ProcessLookupError unless exactly one process can be it.
        """
        holder = only_runner(self.directory.path)
        if holder is None:
            raise ProcessLookupError(f"not exactly one process is the runner of run {self.id}")
        self.log.info("Found the runner, which `started` does not name: pid {}", holder[0], action="adopt")
        self.take_runner(RunnerProcess(*holder))

    def take_runner(self, runner: RunnerProcess) -> None:
        """Watch this runner. If a stop was requested before the runner was known, pass it on now."""
        self.runner = runner
        if self.stop is not None:
            runner.send(SIGTERM)

    def note_running(self, pid: int | None, started_at: datetime | None = None) -> None:
        """Note that the flow process runs, or ran, since `started_at` (None: not known, now).

        Reported once; not at all if the engine's own report is enough.
        """
        self._started_at = self._started_at or started_at
        self._move(Event.START, RunState.RUNNING, "Running", at=self._started_at, pid=pid)
        self._wake_courier()

    def observe(self, tree: ProcessTree) -> None:
        """Record what the run's processes use now; the peak is kept."""
        self.tree = self.meter.observe(self.tree, tree)

    def ask_to_stop(self, reason: str, detail: str, grace_s: float | None = None) -> None:
        """Ask the runner to end the run: gracefully for `grace_s` (None: the run's own grace time), then by force.

        The first reason is kept; asking again can only shorten the grace time.
        """
        grace_s = self.grace_s if grace_s is None else grace_s
        kill_at_s = time.monotonic() + grace_s + _RUNNER_MARGIN_S
        with self._lock:
            if self.ended or (self.stop is not None and self.stop.kill_at_s <= kill_at_s):
                return
            if self.stop is not None:
                reason, detail = self.stop.reason, self.stop.detail
            self.stop = StopRequest(reason=reason, detail=detail, kill_at_s=kill_at_s)
            if self._phase in (RunPhase.RUNNING, RunPhase.STOPPING):
                self._enter(RunEvent.STOP)
        self.log.info("Ending the run: {}", detail, action="stop", reason=reason)
        try:
            self.directory.write_stop(reason, detail, grace_s)
        except OSError as error:  # a full disk must not keep the run alive; the reason is still in memory
            self.log.warning("Cannot write stop.json, continuing without it: {}", error)
        if self.runner is not None:
            self.runner.send(SIGTERM)

    def note_kill(self) -> None:
        """Note that the agent kills the run's tree, because the runner did not end it in time."""
        self._enter(RunEvent.KILL)

    # -- what the backend does not have yet

    def note(self, message: str, level: int, line_id: str, at: datetime | None = None) -> None:
        """Add a line of the agent to the run's log at the backend; the journal belongs to the runner while it lives.

        The line is only in memory: it is lost if the agent dies. `at` (None: now) decides the line's place in the log,
        because backends sort lines by time.
        """
        line = self.line(message, level, line_id, at or datetime.now(timezone.utc))
        with self._lock:
            self._notes.append(line)
        self._wake_courier()

    def line(self, message: str, level: int, line_id: str, at: datetime) -> LogLine:
        """Return a line of the agent for the run's log at the backend."""
        line_id, name = f"{self.attempt}:{line_id}", "flowherd"
        return LogLine(
            flow_run_id=self.id, at=at, stream=name, level=level, logger=name, message=message, line_id=line_id
        )

    def notes(self) -> list[LogLine]:
        """Return the lines added by `note` that have not been delivered."""
        with self._lock:
            return list(self._notes)

    def forget_notes(self, count: int) -> None:
        """Forget the oldest `count` lines of `notes`, which have been delivered."""
        with self._lock:
            del self._notes[:count]

    def finish(
        self,
        verdict: Verdict,
        started_at: datetime | None = None,
        ended_at: datetime | None = None,
        *,
        is_on_disk: bool = False,
    ) -> None:
        """Record how the run ended, and when (None: now). Called only by `conclude`.

        With `is_on_disk` the runner's own record leads to the same reports, so they are not written down once more;
        except for a run with an engine, of which the backend decides what is reported.
        """
        self._started_at = self._started_at or started_at
        if verdict.state == RunState.SUCCESS:
            self.note_running(self.flow_pid, started_at)  # it ended before its start was noticed
        with self._lock:
            self._enter(RunEvent.END)
            self._move(
                EVENT_OF_REPORT[verdict.state],
                verdict.state,
                verdict.message,
                at=ended_at,
                pid=self.flow_pid,
                **verdict.marks(),
                of_process=self.has_engine,
            )
            if self.has_engine or not is_on_disk:
                self._write_outbox(sync=True)
        self._wake_courier()

    @property
    def pending(self) -> Outbox:
        """The reports that the backend does not have yet."""
        return self._outbox

    @property
    def delivered(self) -> bool:
        """Whether the backend knows how the run ended."""
        return self._phase is RunPhase.DELIVERED

    def acknowledge(self, sent: Sequence[StateReport], state: RunState | None = None, *, store: bool = True) -> None:
        """Note that the backend has these reports, or needs none; `state` is the run's there, if it differs.

        Written unsynced, or not at all: what was not stored is reported again, which does no harm.
        """
        with self._lock:
            reports = tuple(kept for kept in self._outbox.reports if not any(kept is one for one in sent))
            self._outbox = replace(self._outbox, reports=reports, state=state or self._outbox.state)
            if store:
                self._write_outbox(sync=False)
            if self._outbox.final and not reports:
                self._enter(RunEvent.DELIVER)

    def _enter(self, event: RunEvent) -> None:
        with self._lock:
            self._phase = after_event(self._phase, event)

    def _move(self, event: Event, state: RunState, message: str, *, at: datetime | None, **facts: Any) -> None:
        with self._lock:
            if event is Event.START and self.state is not RunState.SUBMITTED:
                return  # reported already
            moved = after(self.state, event)
            report = StateReport(
                flow_run_id=self.id,
                state=state,
                message=message,
                at=self._not_before_pending(at or datetime.now(timezone.utc)),
                claim=self.claim or None,
                **facts,
            )
            is_reported = self.ended or self.reports_start
            reports = (*self._outbox.reports, report) if is_reported else self._outbox.reports
            self._outbox = Outbox(reports=reports, final=self.ended, state=moved)

    def _not_before_pending(self, at: datetime) -> datetime:
        """Return `at`, or the time of the last report that waits if that is later: states follow one another."""
        return max([at, *(report.at for report in self._outbox.reports[-1:])])

    def _wake_courier(self) -> None:
        """Wake the courier, except while an engine runs: it uses the same server, so reports wait for its lines."""
        if self.ended or not self.has_engine:
            self._changed()

    def _write_outbox(self, *, sync: bool) -> None:
        try:
            self.directory.write_outbox(self._outbox, sync=sync)
        except OSError as error:  # reported from memory; after a crash of the agent, concluded again from exit.json
            self.log.warning("Cannot write the outbox, keeping it in memory: {}", error)


def _phase_of(outbox: Outbox) -> RunPhase:
    ended = RunPhase.ENDED if outbox.reports else RunPhase.DELIVERED
    return ended if outbox.final else RunPhase.PREPARED

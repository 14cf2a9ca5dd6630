"""One flow run on this host: its phase, its processes, and the reports that the backend does not have yet.

Every change of its phase goes through `Run._enter` (table in run_phase.py), every change of its state through
`Run._move` (table in flowherd.states). A `Run` starts no thread: the deploying thread makes it, the watcher ends it,
the courier delivers for it, one after the other.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from signal import SIGTERM
from typing import Any

from loguru import logger

from flowherd.host.processes import cgroups
from flowherd.host.processes.flock import has_open_within, only_holder
from flowherd.host.processes.process_tree import ProcessTree, Usage
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run_phase import LIVING, RunEvent, RunPhase
from flowherd.host.run_phase import after as after_event
from flowherd.host.store.outbox import Outbox
from flowherd.host.store.records import Started
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.verdict import Verdict
from flowherd.recurring_error import RecurringError
from flowherd.states import EVENT_OF_REPORT, Event, RunState, after
from flowherd.values import LogLine, StateReport
from flowherd_runner.contract import files, identity
from flowherd_runner.contract.spec import RunSpec

#: Beyond a run's grace time, for the runner to end the tree and to write its record.
_RUNNER_MARGIN_S = 5.0


@dataclass(frozen=True, kw_only=True)
class StopRequest:
    """Why a run is to end, and when the agent kills it if it has not ended (monotonic)."""

    reason: str
    detail: str
    kill_at_s: float


class Run:
    """The owner of one flow run.

    `spec` is what can be used of its spec.json; fields that are damaged there have their defaults.
    """

    def __init__(self, directory: RunDirectory, spec: RunSpec, changed: Callable[[], None]) -> None:
        self.id = directory.flow_run_id
        self.directory = directory
        self.spec = spec
        self.name = spec.flow_run_name or self.id
        self.flow_name = spec.flow_name
        self.claim = spec.agent.claim
        #: The task run that carries the claim; empty where the flow run itself does.
        self.claimed_via_task_run = spec.agent.claimed_via_task_run
        #: Tells this start of the flow run from an earlier one.
        self.attempt = spec.agent.attempt
        #: The flow's own engine reports its states; the agent fills in what that cannot say any more.
        self.has_engine = spec.agent.has_engine
        #: The backend is told all the same where the run's process is.
        self.reports_start = spec.agent.reports_start
        #: What it prints and logs is for the backend too.
        self.sends_logs = spec.agent.send_logs
        #: Its output may be shown where the agent was started.
        self.shows_output = spec.agent.show_output
        #: Time between asking the flow to end and killing it, seconds.
        self.grace_s = spec.grace_s
        #: What the run may use, as its spec says.
        self.limits = spec.limits
        #: The run's own cgroup; None when it has none.
        self.cgroup = cgroups.checked_path(spec.cgroup, self.id)
        self.runner: RunnerProcess | None = None
        self.flow_pid: int | None = None
        self.tree = ProcessTree(usage=Usage())
        self.stop: StopRequest | None = None
        #: Why the runner could not be started.
        self.failure: BaseException | None = None
        self.deployed_at = datetime.now(timezone.utc)
        self.log = logger.bind(run_id=self.id, run=self.name)
        self.watching = RecurringError("look after the run", self.log)
        self.delivering = RecurringError("deliver for the run", self.log)
        self._outbox = directory.outbox()
        self._phase = _phase_of(self._outbox)
        self._notes: list[LogLine] = []
        self._lock = threading.RLock()
        self._changed = changed

    @property
    def phase(self) -> RunPhase:
        """Where the run stands on this host."""
        return self._phase

    @property
    def ended(self) -> bool:
        """Whether its end is concluded."""
        return self._phase not in LIVING

    @property
    def state(self) -> RunState:
        """The flow run's state, whether the backend knows it yet or not."""
        return self._outbox.state

    # -- its start

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
        """Note why the runner could not be started. If it was started all the same, its own records decide the end."""
        with self._lock:
            self.failure = error
            if self._phase in (RunPhase.PREPARED, RunPhase.STARTING):
                self._enter(RunEvent.FAIL_TO_START)

    # -- its processes

    def attach(self, started: Started) -> None:
        """Take the living runner under watch.

        Raises ProcessLookupError when it has ended meanwhile, and when it is a process without any file of this run
        open: a stranger that has got its pid in another boot, or whatever a damaged file names.
        """
        if started.boot_id != identity.boot_id() or not has_open_within(started.pid, self.directory.path):
            raise ProcessLookupError(f"process {started.pid} is not the runner of run {self.id}")
        self.flow_pid = started.flow_pid
        self.take_runner(RunnerProcess(started.pid, started.start_ticks))

    def find_runner(self) -> None:
        """Take under watch whoever holds the run's lock, where `started` does not tell; looks at all processes.

        Raises ProcessLookupError when that is not one process alone.
        """
        holder = only_holder(self.directory.path / files.LOCK_FILE)
        if holder is None:
            raise ProcessLookupError(f"no process alone holds the lock of run {self.id}")
        self.log.info("Found the runner by its lock: pid {}", holder[0], action="adopt")
        self.take_runner(RunnerProcess(*holder))

    def take_runner(self, runner: RunnerProcess) -> None:
        """This is the run's runner. What was asked of the run before it was known is asked of it now."""
        self.runner = runner
        if self.stop is not None:
            runner.send(SIGTERM)

    def note_running(self, pid: int | None) -> None:
        """The flow process is there, or was: tell the backend, once, unless an engine does and that is enough."""
        self._move(Event.START, RunState.RUNNING, "Running", pid=pid)

    def observe(self, tree: ProcessTree) -> None:
        """What the run's processes use now; the peak is kept."""
        peak = max(self.tree.usage.peak_memory_bytes, tree.usage.memory_bytes)
        self.tree = replace(tree, usage=replace(tree.usage, peak_memory_bytes=peak))

    def ask_to_stop(self, reason: str, detail: str, grace_s: float | None = None) -> None:
        """Have the runner end the run, politely for `grace_s` (the run's own grace time when None), then finally.

        The first reason stands; asking again can only shorten the grace.
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
        except OSError as error:  # a full disk must not keep a run alive; the reason is still known here
            self.log.warning("Cannot write down why the run is to end: {}", error)
        if self.runner is not None:
            self.runner.send(SIGTERM)

    def note_kill(self) -> None:
        """Note that the agent kills the run's tree, because the runner did not end it in time."""
        self._enter(RunEvent.KILL)

    # -- what the backend does not have yet

    def note(self, message: str, level: int, line_id: str, at: datetime | None = None) -> None:
        """A line of the agent's own for the run's log, while the journal is the runner's. Lost with the agent.

        `at` None is now; a backend shows lines by time, so it also says where the line stands among the others.
        """
        line = LogLine(
            flow_run_id=self.id,
            at=at or datetime.now(timezone.utc),
            stream="flowherd",
            level=level,
            logger="flowherd",
            message=message,
            line_id=f"{self.attempt}:{line_id}",
        )
        with self._lock:
            self._notes.append(line)
        self._tell()

    def notes(self) -> list[LogLine]:
        """The lines of `note` that were not forgotten yet."""
        with self._lock:
            return list(self._notes)

    def forget_notes(self, count: int) -> None:
        """The oldest `count` lines of `notes` are told."""
        with self._lock:
            del self._notes[:count]

    def finish(self, verdict: Verdict) -> None:
        """The run has ended so. Only `ending.settle` calls this."""
        if verdict.state == RunState.SUCCESS:
            self.note_running(self.flow_pid)  # ended before anybody saw it running
        with self._lock:
            self._enter(RunEvent.END)
            self._move(
                EVENT_OF_REPORT[verdict.state],
                verdict.state,
                verdict.message,
                pid=self.flow_pid,
                reason=verdict.reason,
                grade=verdict.grade,
                of_process=self.has_engine,
            )

    @property
    def pending(self) -> Outbox:
        """What the backend has still to be told."""
        return self._outbox

    @property
    def delivered(self) -> bool:
        """Whether the backend knows how the run ended."""
        return self._phase is RunPhase.DELIVERED

    def acknowledge(self, report: StateReport, state: RunState | None = None) -> None:
        """The backend has `report`, or needs it no more, and with `state` the run is in that now."""
        with self._lock:
            reports = tuple(kept for kept in self._outbox.reports if kept is not report)
            self._store(replace(self._outbox, reports=reports, state=state or self._outbox.state))
            if self._outbox.final and not reports:
                self._enter(RunEvent.DELIVER)

    def _enter(self, event: RunEvent) -> None:
        with self._lock:
            self._phase = after_event(self._phase, event)

    def _move(self, event: Event, state: RunState, message: str, **facts: Any) -> None:
        with self._lock:
            if event is Event.START and self.state is not RunState.SUBMITTED:
                return  # told already, by whoever saw it first
            moved = after(self.state, event)
            report = StateReport(
                flow_run_id=self.id,
                state=state,
                message=message,
                at=datetime.now(timezone.utc),
                claim=self.claim or None,
                **facts,
            )
            is_told = self.ended or self.reports_start
            reports = (*self._outbox.reports, report) if is_told else self._outbox.reports
            self._store(Outbox(reports=reports, final=self.ended, state=moved))
        self._tell()

    def _tell(self) -> None:
        """Now, but what is said while an engine begins has the time of its next lines: both ask the same server."""
        if self.ended or not self.has_engine:
            self._changed()

    def _store(self, outbox: Outbox) -> None:
        self._outbox = outbox
        try:
            self.directory.write_outbox(outbox)
        except OSError as error:  # told from memory then; after a crash it is concluded again from exit.json
            self.log.warning("Cannot write down what is to be reported: {}", error)


def _phase_of(outbox: Outbox) -> RunPhase:
    if outbox.final:
        return RunPhase.ENDED if outbox.reports else RunPhase.DELIVERED
    return RunPhase.PREPARED

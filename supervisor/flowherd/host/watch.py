"""Watches the processes of all runs in one thread: notices runners' ends and enforces limits.

A run's end is noticed at once: its runner says that it is recorded, or has ended, by its pidfd. Limits are checked once
per interval, in one look at all runs. Without a run the thread sleeps.
"""

from __future__ import annotations

import contextlib
import select
import threading
import time
from collections.abc import Callable, Sequence
from signal import SIGKILL

from loguru import logger

from flowherd.errors import RunDirectoryDamaged
from flowherd.host.conclude import conclude
from flowherd.host.end_hints import EndHints
from flowherd.host.limits import breach, is_limited
from flowherd.host.near_limits import NearLimits
from flowherd.host.processes import cgroups, process_tree
from flowherd.host.processes.hand_over import HandOver
from flowherd.host.processes.kill_tree import end_tree
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd.host.run_phase import RunPhase
from flowherd.host.run_registry import RunRegistry
from flowherd.host.store.survivors import Survivor
from flowherd.recurring_error import RecurringError
from flowherd.signals import Waker
from flowherd.story.account import KILLED
from flowherd_runner.contract import faults

#: Pause between looks at a run whose runner cannot be polled (not known yet, no pidfd, lock still held), seconds.
_BLIND_TICK_S = 0.05
#: Pause after a round that failed, seconds.
_PAUSE_S = 0.5
#: Pause between two searches through all processes for the runner of one run, seconds.
_SEARCH_INTERVAL_S = 2.0


class Watcher:
    """Watches the runs of a registry until closed. Calls `on_end`, in its own thread, for each run that has ended.

    `remember` is called with processes of ended runs that could not be ended.
    """

    def __init__(
        self,
        registry: RunRegistry,
        interval_s: float,
        on_end: Callable[[Run], None],
        remember: Callable[[Sequence[Survivor]], None],
    ) -> None:
        self._registry = registry
        self._interval_s = interval_s
        self._on_end = on_end
        self._remember = remember
        self._waker = Waker()
        self._closed = False
        self._watching = RecurringError("watch the runs", logger)
        #: Runs whose start is not recorded yet, as far as this thread knows, by id.
        self._starts: dict[str, HandOver] = {}
        self._hints = EndHints()
        #: Runs that have ended, as their runners say; each is looked at once for that.
        self._told: set[str] = set()
        self._next_search_s: dict[str, float] = {}
        self._next_look_s = 0.0
        self._reader = process_tree.TreeReader()
        self._near_limits = NearLimits()
        #: What the last look has found, by run id.
        self._trees: dict[str, process_tree.ProcessTree] = {}
        #: Runners that have ended, as their pidfds say; each stays here until its run is concluded.
        self._ended: set[RunnerProcess] = set()
        self._thread = threading.Thread(target=self._loop, name="watcher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look at the runs now, because one is new or was asked to stop."""
        self._waker.wake()

    def expect(self, run: Run, handed: HandOver | None) -> None:
        """Look at a run that was handed over, and note its start when the runner says that it is recorded."""
        if handed is not None:
            self._starts[run.id] = handed
        self.wake()

    def close(self, timeout_s: float | None) -> bool:
        """Stop watching. The runs continue. Returns False if the last look has not ended then."""
        self._closed = True
        self._waker.wake()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        for run_id in list(self._starts):
            self._forget_start(run_id)
        self._hints.close()
        for run in self._registry.living():
            if not run.is_after_end:
                run.history.store()
        return True

    def _loop(self) -> None:
        while not self._closed:
            try:
                self._wait()
                self._round()
            except OSError as error:  # no descriptors, no memory: the host may recover
                self._watching.failed(error)
                self._waker.wait(_PAUSE_S)
            except Exception:  # one run must not end the watching of all others
                logger.exception("Unexpected error while watching the runs; continuing")
                self._waker.wait(_PAUSE_S)
            else:
                self._watching.recovered()

    def _wait(self) -> None:
        """Wait until a runner ends, a look is due, or somebody wakes this thread."""
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        living = self._registry.living()
        runners = [run.runner for run in living]
        by_fd = {
            fd: runner
            for runner in runners
            if runner is not None and runner not in self._ended and (fd := runner.fileno()) is not None
        }
        starts = [handed.fileno() for handed in list(self._starts.values()) if not handed.is_over]
        for fd in (*by_fd, *starts, *self._hints.descriptors()):
            poll.register(fd, select.POLLIN)
        ready = poll.poll(self._timeout_ms(living, blind=len(by_fd) < len(living)))
        ended = {by_fd[fd] for fd, _ in ready if fd in by_fd}
        self._told |= self._hints.ended({fd for fd, _ in ready})
        self._told.intersection_update(run.id for run in living)
        self._ended = self._ended.intersection(runner for runner in runners if runner is not None) | ended
        self._waker.wait(0)

    def _timeout_ms(self, living: list[Run], *, blind: bool) -> int | None:
        if not living:
            return None
        until_look_s = max(0.0, self._next_look_s - time.monotonic())
        return int(1000 * (min(until_look_s, _BLIND_TICK_S) if blind else until_look_s)) + 1

    def _round(self) -> None:
        for run in self._registry.living():
            if self._is_to_check(run):
                self._guarded(run, self._check)
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + self._interval_s
            self._look()

    def _is_to_check(self, run: Run) -> bool:
        """Return whether the run's runner may have ended, or its start is not known completely."""
        is_known = run.runner is not None and run.flow_pid is not None and run.id not in self._starts
        return not is_known or run.id in self._told or (run.runner is not None and self._has_ended(run.runner))

    def _has_ended(self, runner: RunnerProcess) -> bool:
        return runner in self._ended or (runner.fileno() is None and not runner.alive)

    def _guarded(self, run: Run, action: Callable[[Run], None]) -> None:
        try:
            action(run)
        except Exception as error:  # a failure concerns only this run
            run.watching.failed(error)
        else:
            run.watching.recovered()

    def _check(self, run: Run) -> None:
        if run.phase is RunPhase.STARTING:
            return
        handed = self._starts.get(run.id)
        if run.runner is None or run.flow_pid is None or (handed is not None and handed.look()):
            self._find_processes(run)
        is_told = run.id in self._told
        self._told.discard(run.id)
        if (is_told or run.runner is None or self._has_ended(run.runner)) and conclude(run, self._remember):
            self._next_search_s.pop(run.id, None)
            self._forget_start(run.id)
            self._hints.forget(run.id)
            self._on_end(run)

    def _forget_start(self, run_id: str) -> None:
        if (handed := self._starts.pop(run_id, None)) is not None:
            handed.close()

    def _find_processes(self, run: Run) -> None:
        try:
            started = run.directory.started()
        except RunDirectoryDamaged as error:
            self._search(run, error)
            return
        if started is None:
            self._search(run, FileNotFoundError("the runner has not written its pid yet"))
            return
        if run.runner is None:
            try:
                run.attach(started)
            except ProcessLookupError as error:
                self._search(run, error)
        run.flow_pid, run.init_pid = started.flow_pid, started.init_pid
        if run.flow_pid is not None:
            faults.point("before-running")
            run.note_running(run.flow_pid, started.started_at)
            faults.point("after-running")
            if (handed := self._starts.pop(run.id, None)) is not None:
                self._hints.listen(run.id, handed)

    def _search(self, run: Run, reason: Exception) -> None:
        """Search for the runner of a held lock, because no file names it. Rarely, because it is expensive."""
        if (
            run.runner is not None
            or time.monotonic() < self._next_search_s.get(run.id, 0.0)
            or not run.directory.lock_is_held()
        ):
            return
        self._next_search_s[run.id] = time.monotonic() + _SEARCH_INTERVAL_S
        run.log.debug("Looking for the runner among all processes: {}", reason)
        with contextlib.suppress(ProcessLookupError):
            run.find_runner()

    def _look(self) -> None:
        living = {run.id: run for run in self._registry.living() if run.runner is not None}
        if not living:
            return
        runners = {run_id: run.runner.pid for run_id, run in living.items() if run.runner is not None}
        watched = {run_id for run_id, run in living.items() if run.stop is not None or is_limited(run.limits)}
        inits = {run_id: run.init_pid for run_id, run in living.items() if run.init_pid is not None}
        before, self._trees = self._trees, self._reader.look(runners, closely=watched, inits=inits)
        for run_id, run in living.items():
            if self._trees[run_id] is not before.get(run_id):
                run.observe(self._trees[run_id])
            if run_id in watched:
                self._guarded(run, self._enforce)
        # After a second start, the account in the directory is that of the first end.
        self._keep_histories([run for run in living.values() if not run.is_after_end])

    @staticmethod
    def _keep_histories(runs: Sequence[Run]) -> None:
        for run in runs:
            run.history.look(run.tree)
        # One each time, so that no end waits for the disk.
        due = min(runs, key=lambda run: run.history.next_write_s, default=None)
        if due is not None and due.history.next_write_s <= time.monotonic():
            due.history.store()

    def _enforce(self, run: Run) -> None:
        if run.stop is not None:
            if time.monotonic() > run.stop.kill_at_s:
                self._force(run)
            return
        self._near_limits.look(run)
        if breach(run.tree.usage, run.limits) is None:
            return
        exact = process_tree.exact_usage(run.tree)
        passed = breach(exact, run.limits)
        if passed is not None:
            run.history.list_processes(run.tree)
            # No grace time: the host could run out of memory meanwhile.
            run.ask_to_stop(passed.reason, passed.detail, grace_s=0.0)

    def _force(self, run: Run) -> None:
        run.log.warning("The runner did not end the run in time; killing the tree", action="force")
        run.note_kill()
        run.history.note(KILLED, "by the agent: the runner did not end it in time")
        if run.cgroup is not None:
            cgroups.kill(run.cgroup)
        end_tree(run.id, runner=run.runner, session=None, known=run.tree.processes, init_pid=run.init_pid)
        if run.runner is not None:
            run.runner.send(SIGKILL)

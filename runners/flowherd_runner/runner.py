"""The runner of one flow run: outlives agent and fork server, and owns the run's output, its end and the record of it.

One thread, one selector, no handlers. Everything that others learn from it is in the run directory.
"""

import os
import resource
import selectors
import time
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

from flowherd_runner.birth import STOP_SIGNALS, Newborn, enter_cgroup
from flowherd_runner.contract import faults
from flowherd_runner.contract.files import (
    AFTER_END_FILE,
    EXIT_FILE,
    JOURNAL_FILE,
    SPEC_FILE,
    STARTED_FILE,
    open_regular,
    write_json,
    write_prepared,
)
from flowherd_runner.contract.hand_over import GO, send_hint
from flowherd_runner.contract.journal import STREAM_STDERR, STREAM_STDOUT
from flowherd_runner.contract.oom import OomCount, oom_count
from flowherd_runner.contract.reasons import RUNNER_BROKEN, RUNNER_OK
from flowherd_runner.contract.spec import RunSpec, spec_content, spec_of, without_agent_keys
from flowherd_runner.exit_record import End, describe_end
from flowherd_runner.exit_space import reserve_exit_record
from flowherd_runner.flow_group import group_exists
from flowherd_runner.flow_orders import is_read_for
from flowherd_runner.flow_process import kind_of
from flowherd_runner.interpreter_end import where
from flowherd_runner.isolation.confirmation import Confirmed, confirmed
from flowherd_runner.isolation.namespace_processes import processes_of
from flowherd_runner.journal_writer import JournalWriter
from flowherd_runner.kept_files import KeptFiles
from flowherd_runner.kill_leftovers import Cleared, LeftoverKiller, leftover_text
from flowherd_runner.kinds.definition import Kind
from flowherd_runner.masking import Mask
from flowherd_runner.merge import Merge
from flowherd_runner.output_reader import OutputReader
from flowherd_runner.output_segments import SegmentReader
from flowherd_runner.own_errors import print_traceback
from flowherd_runner.process_mark import mark_runner
from flowherd_runner.run_processes import RunProcesses, survivor_json
from flowherd_runner.run_secrets import RunSecrets, prepare
from flowherd_runner.secret_values import Rules
from flowherd_runner.start_record import note_isolation, start_record
from flowherd_runner.stopping import TERMINATE, Stopper

#: How long to read output that is still on its way when all processes have ended, seconds.
_DRAIN_S = 0.5
_EXIT_RECORD_DEADLINE_S = 30.0
_MAX_LEFTOVERS = 50
_MAX_WAIT_S = 3600.0


def run(directory: str, lock_fd: int, go_fd: Optional[int], newborn: Newborn) -> int:
    """Carry out the run in `directory` and return this process's exit code.

    `lock_fd` is the run's lock, which is held until this process ends. `go_fd` is the socket on which the agent says
    that the run is to be started (contract/hand_over.py); None: it is. Errors go to standard error, which is the run's
    file of them already.
    """
    faults.point("runner-at-birth")
    os.set_inheritable(lock_fd, False)
    try:
        content = spec_content(directory)
        newborn.flow.give(directory, content if newborn.apart is None else without_agent_keys(content))
        mark_runner(directory)
        runner = Runner(directory, spec_of(content), newborn, lock_fd)
        if not runner.start(go_fd):
            newborn.flow.end()
            return RUNNER_OK
        runner.watch()
        runner.finish()
    except Exception:  # the runner's outermost boundary; without an exit record the agent reads this file
        print_traceback()
        RunProcesses(os.path.basename(directory)).kill_all()
        return RUNNER_BROKEN
    return RUNNER_OK


class Runner:
    """One flow run from its start to its exit record."""

    def __init__(self, directory: str, spec: RunSpec, newborn: Newborn, lock_fd: int) -> None:
        #: When the run went on, seconds since the epoch, as in exit.json.
        self._phases = {"asked": time.time()}
        self._directory = directory
        self._spec = spec
        self._signals = newborn.signals
        self._flow = newborn.flow
        self._flow_pid = newborn.flow.pid
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._signals, selectors.EVENT_READ)
        self._processes = processes_of(spec.flow_run_id, newborn.flow.init)
        self._mask = Mask()
        reserve_exit_record(directory)
        journal_fd = open_regular(os.path.join(directory, JOURNAL_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._journal = JournalWriter(journal_fd, spec.max_journal_bytes)
        self._kept_files = KeptFiles(directory, lock_fd, journal_fd)
        self._cgroup = enter_cgroup(newborn, spec.cgroup, spec.weights.cpu)
        self._agent_fd: Optional[int] = None
        self._kind = kind_of(spec)
        #: Wait status of the flow process; None while it runs.
        self._status: Optional[int] = None
        self._flow_cpu_s = 0.0
        #: Whether the user's function had returned before the run was asked to end.
        self._had_returned = False
        self._oom_before: Optional[OomCount] = None
        self._oom_after: Optional[OomCount] = None

    # The start.

    def start(self, go_fd: Optional[int]) -> bool:
        """Record the start, once it is certain, and let the flow process continue to the user's code.

        Returns False if the agent has withdrawn the run: nothing was started then.
        """
        prepared = prepare(self._spec)
        if is_read_for(self._spec):
            self._flow.give_variables(prepared.spec.env, prepared.refusal)
        if go_fd is not None and not self._is_to_go(go_fd):
            return False
        found = confirmed(self._flow, self._spec.isolation) if self._spec.isolation.wanted else Confirmed(None, ())
        faults.point("runner-before-started")
        self._record_start(found.record)
        faults.point("runner-after-started")
        self._stopper = Stopper(
            self._directory,
            self._flow_pid,
            self._kind.stop if isinstance(self._kind, Kind) else TERMINATE,
            self._spec.grace_s,
            self._spec.limits.run_time_s,
            self._has_ended,
            self._journal.notice,
        )
        self._flow.let_go()
        self._phases["code"] = time.time()
        faults.point("runner-after-go")
        if go_fd is not None:
            send_hint(go_fd, {"started": True})
            self._agent_fd = go_fd
        # Only now, so that the user's code need not wait for it; nothing is read from the pipes before.
        self._note_intent()
        note_isolation(found.record, self._spec.isolation, self._journal.notice)
        secrets = RunSecrets(self._mask, self._journal, Rules(self._spec.mask, self._spec.unmask))
        secrets.begin(prepared)
        in_fork = isinstance(self._kind, Kind) and self._kind.in_fork
        segments = SegmentReader(self._flow.segments) if in_fork else None
        merge = Merge(self._flow.token, (STREAM_STDOUT, STREAM_STDERR), self._spec.max_line_bytes, self._mask, segments)
        self._output = OutputReader(
            self._selector,
            self._flow.ends,
            merge,
            self._mask,
            self._journal,
            secrets.found,
            self._flow_pid,
            found.early,
        )
        return True

    def _note_intent(self) -> None:
        try:
            self._phases["intent"] = os.stat(os.path.join(self._directory, SPEC_FILE)).st_mtime
        except OSError:  # removed by somebody; only a time is not known then
            pass

    def _is_to_go(self, go_fd: int) -> bool:
        """Say that the run is prepared, and wait for the agent's word. Signals that arrive meanwhile are kept."""
        init = self._flow.init
        send_hint(go_fd, {"flow_pid": self._flow_pid, **({"init_pid": init.pid} if init is not None else {})})
        faults.point("runner-prepared")
        try:
            return os.read(go_fd, len(GO)) == GO
        except OSError:
            return False

    def _record_start(self, isolation: Optional[Dict[str, Any]]) -> None:
        self._started_at = _now()
        self._oom_before = oom_count(self._cgroup)
        # Flushed before user code may run: otherwise the run would be started a second time after a power cut.
        write_prepared(self._directory, STARTED_FILE, start_record(self._flow_pid, self._started_at, isolation))
        self._kept_files.keep(STARTED_FILE)

    # While the flow process runs.

    def watch(self) -> None:
        """Journal output, obey stop requests and enforce the time limit, until the flow process ends or is given up."""
        while self._status is None and not self._stopper.is_given_up:
            self._pump(self._next_deadline_s())
            if self._stopper.stop is None:
                self._had_returned = self._output.finalising
            if self._status is None:
                self._stopper.enforce()
            self._note_removed(self._kept_files.look_if_due())
            self._note_after_end()
        self._ended_at = _now()
        self._oom_after = oom_count(self._cgroup)

    def _next_deadline_s(self) -> float:
        until_s, look_s = self._stopper.next_deadline_s, self._kept_files.next_look_s
        return look_s if until_s is None else min(until_s, look_s)

    def _note_after_end(self) -> None:
        """Write down what is to be done after the end, at once: this process may be killed together with the flow's."""
        wanted, self._output.after_end = self._output.after_end, None
        if wanted is not None:
            try:
                write_json(self._directory, AFTER_END_FILE, {"wanted": wanted}, sync=False)
            except OSError:
                self._journal.notice("the disk refused a note about hooks: none are called if the run is killed")

    def _note_removed(self, names: List[str]) -> None:
        if names:
            text = "removed from the run's directory by another program, and made again: {}"
            self._journal.notice(text.format(", ".join(names)))

    def _pump(self, until_s: Optional[float] = None) -> None:
        """One round: wait for any event, at most until `until_s`; then read, reap and obey."""
        deadlines = [one for one in (until_s, self._output.deadline()) if one is not None]
        # epoll_wait(2) cannot wait for longer than a C int of milliseconds; a limit may be a year.
        timeout_s = min(_MAX_WAIT_S, max(0.0, min(deadlines) - time.monotonic())) if deadlines else None
        self._selector.select(timeout_s)
        arrived = self._signals.read()
        # Before reaping: when the signal came, the flow process was not known to have ended.
        for one in arrived:
            if one.number in STOP_SIGNALS and self._status is None:
                self._stopper.obey(one)
        self._reap()
        self._output.pump()

    def _reap(self) -> bool:
        """Take the exit status of every child that has ended, and return whether processes of the run are left.

        Orphans of the run become children of this process, so without any child there is no descendant either; for
        those in a namespace of their own see namespace_processes.py.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return self._status is None or self._processes.any_left()
            self._processes.note_reaped(pid)
            if pid == self._flow_pid:
                self._status = status
                self._flow_cpu_s = usage.ru_utime + usage.ru_stime

    def _has_ended(self) -> bool:
        self._reap()
        return self._status is not None

    # The end.

    def finish(self) -> None:
        """End what is left of the run, take the rest of its output, and write the exit record."""
        faults.point("runner-before-clearing")
        killer = LeftoverKiller(self._processes, self._reap, self._pump)
        if self._stopper.group_deadline_s is not None:
            # The group was asked to end: it has as much time as the flow process itself would have had.
            killer.wait_while(lambda: self._reap() and group_exists(self._flow_pid), self._stopper.group_deadline_s)
        cleared = killer.run()
        self._drain()
        self._note_after_end()
        self._note_removed(self._kept_files.make_again())
        if cleared.leftovers:
            self._journal.notice(leftover_text(cleared.leftovers))
        self._journal.close()
        faults.point("runner-before-exit-record")
        self._record_end(self._exit_record(cleared))
        faults.point("runner-after-exit-record")
        if self._agent_fd is not None and not cleared.searched:
            # Nothing is left to do, and the agent need not wait until the kernel has freed this process's memory.
            self._kept_files.release_lock()
            send_hint(self._agent_fd, {"ended": True})

    def _finaliser(self) -> Optional[str]:
        """What the flow process was doing when it was ended after its function had returned; None for all else."""
        if not self._had_returned:
            return None
        return self._mask.text(where(self._output.stack.decode("utf-8", "replace")) or "where is not known")

    def _drain(self) -> None:
        deadline_s = time.monotonic() + _DRAIN_S
        while not self._output.ended and time.monotonic() < deadline_s:
            self._pump(deadline_s)
        self._output.close()
        self._reap()

    def _record_end(self, record: Dict[str, Any]) -> None:
        """Write exit.json; while the disk refuses it, keep the lock, because without a record the end is not known."""
        deadline_s = time.monotonic() + _EXIT_RECORD_DEADLINE_S
        while True:
            try:
                # Flushed before the lock is free: otherwise a run that has ended would be told lost after a power cut.
                write_prepared(self._directory, EXIT_FILE, record)
                return
            except OSError:
                if time.monotonic() >= deadline_s:
                    raise
            time.sleep(1)

    def _exit_record(self, cleared: Cleared) -> Dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._phases.update(self._journal.first_line, recorded=time.time())
        end = End(
            wait_status=self._status,
            cpu_time_s=self._flow_cpu_s,
            stop=self._stopper.stop,
            not_started=self._output.not_started,
            exception=self._output.exception,
            finaliser=self._finaliser(),
            cpu_limit_s=self._spec.limits.cpu_time_s,
            oom_before=self._oom_before,
            oom_after=self._oom_after,
        )
        return dict(
            describe_end(end),
            started_at=self._started_at,
            ended_at=self._ended_at,
            cpu_time_s=round(usage.ru_utime + usage.ru_stime, 6),
            peak_memory_bytes=usage.ru_maxrss * 1024,
            leftovers=[{"pid": one.pid, "name": one.name} for one in cleared.leftovers[:_MAX_LEFTOVERS]],
            leftovers_count=len(cleared.leftovers),
            survivors=[survivor_json(one) for one in cleared.survivors[:_MAX_LEFTOVERS]],
            searched=cleared.searched,
            phases={name: round(at_s, 4) for name, at_s in self._phases.items()},
            asked_at=self._stopper.asked_at,
            killed_at=self._stopper.killed_at,
            lines=self._journal.lines,
            lines_cut=self._output.lines_cut,
            lines_dropped=self._journal.lines_dropped,
        )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()

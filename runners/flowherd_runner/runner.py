"""The runner of one flow run: outlives agent and fork server, owns the run's output, its end and the record of it.

One thread, one selector, no handlers. What it leaves in the run directory is all that anybody learns from it.
"""

import os
import resource
import selectors
import signal
import socket
import sys
import time
import traceback
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

from flowherd_runner import osapi
from flowherd_runner.contract import faults
from flowherd_runner.contract.files import (
    EXIT_FILE,
    JOURNAL_FILE,
    RUNNER_ERRORS_FILE,
    STARTED_FILE,
    open_regular,
    reserve_json,
    write_json,
)
from flowherd_runner.contract.identity import boot_id, process_status
from flowherd_runner.contract.journal import STREAM_STDERR, STREAM_STDOUT
from flowherd_runner.contract.oom import OomCount, oom_count
from flowherd_runner.contract.reasons import RUNNER_BROKEN, RUNNER_OK
from flowherd_runner.contract.spec import RunSpec, read_spec
from flowherd_runner.exit_record import End, Stop, verdict
from flowherd_runner.flow_group import group_exists, set_group, signal_group
from flowherd_runner.flowprocess import Origin, WritingEnds, become_flow
from flowherd_runner.journal_writer import JournalWriter
from flowherd_runner.kept_files import KeptFiles
from flowherd_runner.kill_leftovers import Clearing, leftover_text
from flowherd_runner.kinds import KINDS
from flowherd_runner.masking import Mask
from flowherd_runner.merge import Merge
from flowherd_runner.output import Output, ReadingEnds
from flowherd_runner.run_processes import Process, Tree, describe, find, may_not_signal, survivor_json
from flowherd_runner.stopping import TERMINATE, overdue, requested_stop

#: What asks a runner to end its run.
STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

#: For output that is still on its way when all processes are gone.
_DRAIN_S = 0.5
_EXIT_RECORD_DEADLINE_S = 30.0
_MAX_LEFTOVERS = 50
#: How long a flow process that may not be signalled has to end once everything else of its group was killed, seconds.
_REFUSED_S = 1.0
#: How long a flow process has to end after SIGKILL, seconds; longer than that it hangs in the kernel.
_HUNG_S = 10.0
_MAX_WAIT_S = 3600.0
#: More than an exit record with that many leftovers and the longest texts takes.
_EXIT_RECORD_BYTES = 64 * 1024


def run(directory: str, lock_fd: int, kept_fds: osapi.Descriptors) -> int:
    """Carry out the run in `directory` and return this process's exit code.

    `lock_fd` is the run's lock, held by being open until this process ends. `kept_fds` belong to preloaded modules.
    """
    faults.point("runner-at-birth")
    umask = os.umask(0o077)
    os.set_inheritable(lock_fd, False)
    _detach(directory)
    signals = osapi.SignalQueue(STOP_SIGNALS | {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    osapi.become_subreaper()
    try:
        spec = read_spec(directory)
        runner = Runner(directory, spec, signals, lock_fd)
        runner.start(umask, kept_fds)
        runner.watch()
        runner.finish()
    except Exception:  # the runner's outermost boundary; without a record the agent asks this file
        traceback.print_exc()
        sys.stderr.flush()
        Tree(os.path.basename(directory)).kill_all()
        return RUNNER_BROKEN
    return RUNNER_OK


def _detach(directory: str) -> None:
    """Leave whoever started this process: a session of its own, no terminal, no directory in use."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        errors = open_regular(os.path.join(directory, RUNNER_ERRORS_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    except OSError:
        errors = os.dup(null)
    for fd, target in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(fd, target)
    os.close(null)
    os.close(errors)


class Runner:
    """One flow run from its start to its record."""

    def __init__(self, directory: str, spec: RunSpec, signals: osapi.SignalQueue, lock_fd: int) -> None:
        self._directory = directory
        self._spec = spec
        self._signals = signals
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals, selectors.EVENT_READ)
        kind = KINDS.get(spec.kind)
        self._polite = TERMINATE if kind is None else kind.stop
        self._tree = Tree(spec.flow_run_id)
        self._mask = Mask(spec.env.get(name, os.environ.get(name, "")) for name in spec.masked_env)
        reserve_json(directory, EXIT_FILE, _EXIT_RECORD_BYTES)
        journal_fd = open_regular(os.path.join(directory, JOURNAL_FILE), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._journal = JournalWriter(journal_fd, spec.max_journal_bytes)
        self._kept_files = KeptFiles(directory, lock_fd, journal_fd)
        self._cgroup = osapi.enter_cgroup(spec.cgroup)
        self._flow_pid = 0
        self._status: Optional[int] = None
        self._flow_cpu_s = 0.0
        self._oom_before: Optional[OomCount] = None
        self._oom_after: Optional[OomCount] = None
        self._stop: Optional[Stop] = None
        self._kill_at_s: Optional[float] = None
        #: When the flow process, which was killed, is given up if it has not ended.
        self._give_up_at_s: Optional[float] = None

    # The beginning.

    def start(self, umask: int, kept_fds: osapi.Descriptors) -> None:
        """Fork the flow process, put the start on record, and let it go on to the user's code."""
        stdout_fd, stdout_end = os.pipe()
        stderr_fd, stderr_end = os.pipe()
        go_end, go_fd = os.pipe()
        records, records_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        token = os.urandom(8).hex().encode()
        ends = WritingEnds(stdout_end, stderr_end, records_end.fileno(), go_end)
        origin = Origin(self._directory, os.getpid(), umask, kept_fds, token)
        self._flow_pid = os.fork()
        if self._flow_pid == 0:
            become_flow(self._spec, origin, ends)
        for fd in (stdout_end, stderr_end, go_end):
            os.close(fd)
        records_end.close()
        set_group(self._flow_pid)
        merge = Merge(token, (STREAM_STDOUT, STREAM_STDERR), self._spec.max_line_bytes, self._mask)
        self._output = Output(
            self._selector, ReadingEnds(stdout_fd, stderr_fd, records), merge, self._mask, self._journal
        )
        faults.point("runner-before-started")
        self._record_start()
        faults.point("runner-after-started")
        self._started_s = time.monotonic()
        # A flow process that could not be prepared is gone, and with it the other end.
        try:
            os.write(go_fd, b"\n")
        except BrokenPipeError:
            pass
        os.close(go_fd)
        faults.point("runner-after-go")

    def _record_start(self) -> None:
        own = process_status(os.getpid())
        self._started_at = _now()
        self._oom_before = oom_count(self._cgroup)
        everywhere = oom_count(None)
        started = {
            "pid": os.getpid(),
            "start_ticks": own[1] if own else 0,
            "boot_id": boot_id(),
            "started_at": self._started_at,
            "flow_pid": self._flow_pid,
            "oom_kills": everywhere.kills if everywhere is not None else None,
        }
        write_json(self._directory, STARTED_FILE, started)
        self._kept_files.keep(STARTED_FILE)

    # While it runs.

    def watch(self) -> None:
        """Journal output, obey stop requests and the time limit, until the flow process has ended or is given up."""
        while self._status is None and not self._is_given_up():
            self._pump(self._next_deadline_s())
            self._enforce()
            self._note_removed(self._kept_files.look_if_due())
        self._ended_at = _now()
        self._oom_after = oom_count(self._cgroup)

    def _next_deadline_s(self) -> float:
        limit_s = self._spec.limits.run_time_s
        if self._stop is not None:
            until_s = self._kill_at_s or self._give_up_at_s
        else:
            until_s = None if limit_s is None else self._started_s + limit_s
        look_s = self._kept_files.next_look_s
        return look_s if until_s is None else min(until_s, look_s)

    def _note_removed(self, names: List[str]) -> None:
        if names:
            text = "removed from the run's directory by another program, and made again: {}"
            self._journal.notice(text.format(", ".join(names)))

    def _enforce(self) -> None:
        """Begin to end the run when its time is up, and kill it when the time to end by itself is up."""
        now = time.monotonic()
        if self._status is not None:
            return
        limit_s = self._spec.limits.run_time_s
        if self._stop is None and limit_s is not None and now >= self._started_s + limit_s:
            self._begin_stop(overdue(limit_s, self._spec.grace_s))
        if self._kill_at_s is not None and now >= self._kill_at_s:
            self._kill_at_s = None
            signal_group(self._flow_pid, signal.SIGKILL)
            self._give_up_at_s = now + (_REFUSED_S if may_not_signal(self._flow_pid) else _HUNG_S)

    def _is_given_up(self) -> bool:
        """Whether the flow process was to be killed and lives on: it may not be signalled, or hangs in the kernel."""
        return self._give_up_at_s is not None and time.monotonic() >= self._give_up_at_s

    def _pump(self, until_s: Optional[float] = None) -> None:
        """One round: wait for anything, at most until `until_s`; then read, reap and obey."""
        deadlines = [one for one in (until_s, self._output.deadline()) if one is not None]
        # epoll_wait(2) cannot wait for longer than a C int of milliseconds; a limit may be a year.
        timeout_s = min(_MAX_WAIT_S, max(0.0, min(deadlines) - time.monotonic())) if deadlines else None
        self._selector.select(timeout_s)
        arrived = self._signals.read()
        # Before the reaping: the flow process had not ended, as far as anybody knew, when the signal came.
        for one in arrived:
            if one.number in STOP_SIGNALS and self._status is None:
                self._obey(one)
        self._reap()
        self._output.pump()

    def _reap(self) -> bool:
        """Take the exit status of every child that has one; returns whether there are others.

        Orphans of the run are children here, so without any child there is no descendant either.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._flow_pid:
                self._status = status
                self._flow_cpu_s = usage.ru_utime + usage.ru_stime

    # Stopping.

    def _obey(self, arrived: osapi.Signal) -> None:
        """Somebody asks for the run's end; stop.json says why when it was the agent."""
        stop = requested_stop(self._directory, arrived, self._spec.grace_s)
        if self._stop is None:
            self._begin_stop(stop)
        elif self._kill_at_s is not None:
            self._kill_at_s = min(self._kill_at_s, time.monotonic() + stop.grace_s)

    def _begin_stop(self, stop: Stop) -> None:
        self._reap()
        if self._status is not None:  # it ended by itself before any signal of ours
            return
        self._stop = stop
        self._kill_at_s = time.monotonic() + stop.grace_s
        if stop.grace_s > 0:
            number = self._polite.number_for(stop.reason)
            signal_group(self._flow_pid, number, to_group=self._polite.to_group)
            signal_group(self._flow_pid, signal.SIGCONT)
        flow = find(self._flow_pid)
        if flow is not None and may_not_signal(flow.pid):  # sudo, su and other set-uid programs
            text = "{}; the flow process {} may not be signalled: it may live on"
            self._journal.notice(text.format(stop.evidence, describe(flow)))

    # The end.

    def finish(self) -> None:
        """End what is left of the run, take the rest of its output, and put the end on record."""
        faults.point("runner-before-clearing")
        clearing = Clearing(self._tree, self._reap, self._pump)
        if self._kill_at_s is not None and self._polite.to_group:
            # It was asked to end: its group has as long as the flow process itself would have had.
            clearing.wait_while(lambda: self._reap() and group_exists(self._flow_pid), self._kill_at_s)
        leftovers, survivors = clearing.run()
        self._drain()
        self._note_removed(self._kept_files.make_again())
        if leftovers:
            self._journal.notice(leftover_text(leftovers))
        self._journal.close()
        faults.point("runner-before-exit-record")
        self._record_end(self._exit_record(leftovers, survivors))
        faults.point("runner-after-exit-record")

    def _drain(self) -> None:
        deadline_s = time.monotonic() + _DRAIN_S
        while not self._output.ended and time.monotonic() < deadline_s:
            self._pump(deadline_s)
        self._output.close()
        self._reap()

    def _record_end(self, record: Dict[str, Any]) -> None:
        """Write exit.json; as long as the disk refuses, the lock stays held, for without it the end is not known."""
        deadline_s = time.monotonic() + _EXIT_RECORD_DEADLINE_S
        while True:
            try:
                write_json(self._directory, EXIT_FILE, record)
                return
            except OSError:
                if time.monotonic() >= deadline_s:
                    raise
            time.sleep(1)

    def _exit_record(self, left: List[Process], survivors: List[Process]) -> Dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        end = End(
            wait_status=self._status,
            cpu_time_s=self._flow_cpu_s,
            stop=self._stop,
            not_started=self._output.not_started,
            exception=self._output.exception,
            cpu_limit_s=self._spec.limits.cpu_time_s,
            oom_before=self._oom_before,
            oom_after=self._oom_after,
        )
        return dict(
            verdict(end),
            started_at=self._started_at,
            ended_at=self._ended_at,
            cpu_time_s=round(usage.ru_utime + usage.ru_stime, 6),
            peak_memory_bytes=usage.ru_maxrss * 1024,
            leftovers=[{"pid": one.pid, "name": one.name} for one in left[:_MAX_LEFTOVERS]],
            leftovers_count=len(left),
            survivors=[survivor_json(one) for one in survivors[:_MAX_LEFTOVERS]],
            lines=self._journal.lines,
            lines_cut=self._output.lines_cut,
            lines_dropped=self._journal.lines_dropped,
        )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()

"""From a run that is written down to its runner: holds the lock until a runner does, and asks a fork server for one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from flowherd.engines.plan import runtime_of
from flowherd.engines.registry import package_of
from flowherd.errors import DeployError
from flowherd.host.processes import cgroups, fork_lock
from flowherd.host.processes.fork_server import ForkServer, ForkServers, StartedRunner
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd_runner.contract import faults
from flowherd_runner.contract.spec import RunSpec

#: A start that finds its fork server dead is tried again with another one, so often in all.
_START_TRIES = 3
#: The flow process exists a few milliseconds after its runner.
_FLOW_PID_TIMEOUT_S = 2.0


@dataclass(kw_only=True)
class Intent:
    """A run that is written down, and the descriptor that holds its lock until a runner does."""

    run: Run
    lock_fd: int | None

    def release(self) -> None:
        """Let the lock go, unless a runner has it too."""
        if self.lock_fd is not None:
            os.close(self.lock_fd)
            self.lock_fd = None

    def lock_again(self) -> bool:
        """Whether the lock is ours alone: no runner was given it that still lives."""
        with fork_lock.FORK_LOCK:  # a fork server that is being started would pass for the runner
            self.release()
            self.lock_fd = self.run.directory.try_lock()
        return self.lock_fd is not None

    def drop(self) -> None:
        """It comes to nothing: take its directory away."""
        self.run.directory.remove()
        self.release()


def start(intent: Intent, fork_servers: ForkServers, handed_on: Callable[[], None]) -> int | None:
    """Start the runner, and return the pid of the flow process, or the runner's where that is not known yet.

    `handed_on` is called once the lock is the runner's. Raises DeployError or UnsupportedStorage; the intent then
    still holds the lock.
    """
    run = intent.run
    if run.cgroup is not None:
        cgroups.create(run.cgroup, run.limits)
    runner = _ask_for_runner(intent, fork_servers)
    intent.release()
    if runner is not None:
        with contextlib.suppress(ProcessLookupError):  # over already: the watcher finds out how
            run.take_runner(RunnerProcess(runner.pid, runner.start_ticks))
    run.starting = False
    handed_on()
    run.flow_pid = _flow_pid(run)
    faults.point("before-running")
    if run.flow_pid is not None:
        run.note_running(run.flow_pid)
    faults.point("after-running")
    return run.flow_pid or (runner.pid if runner is not None else None)


def _ask_for_runner(intent: Intent, fork_servers: ForkServers) -> StartedRunner | None:
    """The runner that a fork server has started; None when its fork server died before it said which it is.

    Another fork server is asked when the first died and started nothing, which the lock and the record of a start
    tell. Raises DeployError.
    """
    directory = intent.run.directory
    runtime = runtime_of(intent.run.spec)
    for tries_left in reversed(range(_START_TRIES)):
        server = fork_servers.get(runtime)
        try:
            _require_package(server, intent.run.spec)
            assert intent.lock_fd is not None, "an intent holds its lock until its runner does"
            return server.start_runner(directory.path, intent.lock_fd)
        except DeployError as error:
            if server.alive or not tries_left:
                raise
            intent.run.log.warning("Its fork server died, looking what came of it: {}", error)
        # A runner that was started and is gone has left a record, or has not come to the user's code.
        if not intent.lock_again() or directory.started() is not None or directory.exit_record() is not None:
            return None
    raise AssertionError("the last try returns or raises")


def _require_package(server: ForkServer, spec: RunSpec) -> None:
    """Raises DeployError, which says what to do, when the run's engine needs a package that is missing there."""
    package = package_of(spec.kind)
    failed = server.wait_ready().get("failed", {})
    error = package.import_error(server.runtime.interpreter, failed) if package is not None else None
    if error is not None:
        raise error


def _flow_pid(run: Run) -> int | None:
    """The pid of the flow process, which the runner writes down right after it has forked it."""
    deadline_s = time.monotonic() + _FLOW_PID_TIMEOUT_S
    while time.monotonic() < deadline_s and not run.ended:
        started = run.directory.started()
        if started is not None and started.flow_pid is not None:
            return started.flow_pid
        time.sleep(0.001)
    return run.flow_pid

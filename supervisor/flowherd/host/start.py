"""Starts a prepared run: asks a fork server for its runner and hands the run's lock over to the runner."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import datetime

from flowherd.engines.plan import runtime_of
from flowherd.engines.registry import package_of
from flowherd.errors import DeployError
from flowherd.host.intent import Intent
from flowherd.host.processes import cgroups
from flowherd.host.processes.fork_server import ForkServer, StaleForkServer, StartedRunner
from flowherd.host.processes.fork_server_pool import ForkServers
from flowherd.host.processes.ready_report import how_started
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd_runner.contract import faults
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import KIND_COMMAND

#: Number of tries, counting the first, if the fork server turns out to be dead.
_START_TRIES = 3
#: How long to wait for the flow process, seconds; it exists a few milliseconds after its runner.
_FLOW_PID_TIMEOUT_S = 2.0


def start(intent: Intent, fork_servers: ForkServers, handed_over: Callable[[], None]) -> int | None:
    """Start the runner. Return the pid of the flow process, else that of the runner; None if neither is known yet.

    `handed_over` is called once the runner holds the lock. Raises DeployError or UnsupportedStorage; the intent then
    still holds the lock.
    """
    run = intent.run
    if run.cgroup is not None:
        cgroups.create(run.cgroup, run.limits)
    runner = _ask_for_runner(intent, fork_servers)
    intent.release()
    if runner is not None:
        with contextlib.suppress(ProcessLookupError):  # ended already; the watcher finds out how
            run.take_runner(RunnerProcess(runner.pid, runner.start_ticks))
    run.hand_over()
    handed_over()
    for number, warning in enumerate(run.spec.agent.warnings):
        run.note(f"{warning[:1].upper()}{warning[1:]}", logging.WARNING, f"warning-{number}", run.deployed_at)
    run.flow_pid, started_at = _flow_process(run)
    faults.point("before-running")
    if run.flow_pid is not None:
        run.note_running(run.flow_pid, started_at)
    faults.point("after-running")
    return run.flow_pid or (runner.pid if runner is not None else None)


def _ask_for_runner(intent: Intent, fork_servers: ForkServers) -> StartedRunner | None:
    """Have a fork server start the runner and return it; None if the fork server died before it named the runner.

    If the fork server died and the run's lock and records show that it started no runner, another one is asked. Raises
    DeployError.
    """
    directory = intent.run.directory
    runtime = runtime_of(intent.run.spec, fork_servers.base_env)
    for tries_left in reversed(range(_START_TRIES)):
        server = fork_servers.get(runtime)
        try:
            _require_package(server, intent.run.spec)
            assert intent.lock_fd is not None, "an intent holds its lock until its runner does"
            started = server.start_runner(directory.path, intent.lock_fd)
            _note_how(intent.run, server)
            return started
        except StaleForkServer:  # it has started nothing
            if not tries_left:
                raise
            continue
        except DeployError as error:
            if server.alive or not tries_left:
                raise
            intent.run.log.warning("The fork server died; checking whether the runner was started: {}", error)
        # A runner that has ended already left a record, unless it ended before the user's code.
        if not intent.lock_again() or directory.started() is not None or directory.exit_record() is not None:
            return None
    raise AssertionError("the last try returns or raises")


def _note_how(run: Run, server: ForkServer) -> None:
    """Write to the run's log how it was started, when that was not by the usual fork."""
    if run.spec.kind != KIND_COMMAND:
        for number, sentence in enumerate(how_started(server.runtime, server.wait_ready())):
            run.note(sentence, logging.INFO, f"start-{number}", run.deployed_at)


def _require_package(server: ForkServer, spec: RunSpec) -> None:
    """Raise DeployError, which says what to do, if the run's engine needs a package that is missing there."""
    package = package_of(spec.kind)
    failed = server.wait_ready(spec.flow_run_id).get("failed", {})
    error = package.import_error(server.runtime.interpreter, failed) if package is not None else None
    if error is not None:
        raise error


def _flow_process(run: Run) -> tuple[int | None, datetime | None]:
    """Wait for pid and start time of the flow process, which the runner writes down right after the fork."""
    deadline_s = time.monotonic() + _FLOW_PID_TIMEOUT_S
    while time.monotonic() < deadline_s and not run.ended:
        started = run.directory.started()
        if started is not None and started.flow_pid is not None:
            return started.flow_pid, started.started_at
        time.sleep(0.001)
    return run.flow_pid, None

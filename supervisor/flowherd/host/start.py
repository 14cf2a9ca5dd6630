"""Starts a prepared run in two steps: hands it and its lock over to a runner, and lets the runner go on.

The first step can come before the run is claimed, so that the runner prepares while the backend answers.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from flowherd.engines.plan import runtime_of
from flowherd.engines.registry import package_of
from flowherd.errors import AgentStopping, DeployError
from flowherd.host.intent import Ahead, Intent
from flowherd.host.processes import cgroups
from flowherd.host.processes.fork_server import ForkServer
from flowherd.host.processes.fork_server_pool import ForkServers
from flowherd.host.processes.hand_over import HandOver, StaleForkServer, StartedRunner
from flowherd.host.processes.ready_report import how_started
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd.host.store.runner_errors import last_error, runner_errors
from flowherd_runner.contract import faults
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import KIND_COMMAND

#: Number of tries, counting the first, if the fork server turns out to be dead.
_START_TRIES = 3
#: How long to wait for the flow process's pid, seconds; it is known a few milliseconds after the request.
_FLOW_PID_TIMEOUT_S = 2.0
#: How long a runner that is ending may hold its lock, seconds.
_RELEASE_TIMEOUT_S = 1.0


#: Called with a run that a runner has, and with what tells more of its start, unless that is not known.
HandedOver: TypeAlias = Callable[[Run, HandOver | None], None]


class _RunnerGone(DeployError):
    """The runner that was asked for before the claim has ended, or there is none."""


def hand_over_ahead(intent: Intent, fork_servers: ForkServers) -> None:
    """Have the runner prepare the run before it is claimed, if a fork server can do that at once.

    Never raises and waits for nothing. Nothing is started until `start`; `Intent.withdraw` ends the runner.
    """
    run = intent.run
    if run.failure is not None or intent.lock_fd is None:
        return
    try:
        server = fork_servers.get(runtime_of(run.spec, fork_servers.base_env))
        if not server.is_ready or not server.two_steps or _package_error(server, run.spec) is not None:
            return
        intent.ahead = Ahead(server, _hand_over(server, intent, intent.lock_fd))
    except AgentStopping:
        return
    except (DeployError, OSError) as error:  # `start` tries again, and says what is wrong
        run.log.debug("Not handed over before the claim: {}", error)


def start(intent: Intent, fork_servers: ForkServers, handed_over: HandedOver) -> int | None:
    """Start the runner. Return the pid of the flow process, else that of the runner; None if neither is known yet.

    `handed_over` is called once the runner holds the lock, with what tells when the start is recorded. Raises
    DeployError or UnsupportedStorage; the intent then still holds the lock.
    """
    run = intent.run
    handed, runner = _have_started(intent, fork_servers)
    intent.release()
    if runner is not None:
        with contextlib.suppress(ProcessLookupError):  # ended already; the watcher finds out how
            run.take_runner(RunnerProcess(runner.pid, runner.start_ticks))
    if handed is not None:
        run.flow_pid = handed.wait_for_flow(_FLOW_PID_TIMEOUT_S)
        run.init_pid = handed.init_pid
    run.hand_over()
    handed_over(run, handed)
    for number, warning in enumerate(run.spec.agent.warnings):
        run.note(f"{warning[:1].upper()}{warning[1:]}", logging.WARNING, f"warning-{number}", run.deployed_at)
    return run.flow_pid or (runner.pid if runner is not None else None)


def _have_started(intent: Intent, fork_servers: ForkServers) -> tuple[HandOver | None, StartedRunner | None]:
    """Let the runner go on, which a fork server starts unless that was done; return the hand-over and the runner.

    Both are None if the fork server died before it named the runner. If it died, or the runner that was asked for
    before the claim has ended, and the run's lock and records show that no user code has run, another one is asked.
    Raises DeployError.
    """
    directory = intent.run.directory
    runtime = runtime_of(intent.run.spec, fork_servers.base_env)
    for tries_left in reversed(range(_START_TRIES)):
        ahead = intent.take_ahead()
        server = ahead.server if ahead is not None else fork_servers.get(runtime)
        try:
            handed = ahead.handed if ahead is not None else _ask(server, intent)
            runner = _let_go(handed, directory.path)
            _note_how(intent.run, server)
            return handed, runner
        except StaleForkServer:  # it has started nothing
            if not tries_left:
                raise
            continue
        except _RunnerGone as error:
            if not tries_left:
                raise
            intent.run.log.debug("Starting another runner: {}", error)
        except DeployError as error:
            if server.alive or not tries_left:
                raise
            intent.run.log.warning("The fork server died; checking whether the runner was started: {}", error)
        # A runner that has ended already left a record, unless it ended before the user's code.
        wait_s = _RELEASE_TIMEOUT_S if ahead is not None else 0.0
        if not intent.lock_again(wait_s) or directory.started() is not None or directory.exit_record() is not None:
            return None, None
    raise AssertionError("the last try returns or raises")


def _let_go(handed: HandOver, directory: Path) -> StartedRunner:
    """Let the runner go on and return it. Raises DeployError; it may then have gone on nevertheless."""
    try:
        faults.point("before-go")
        if not handed.go():
            raise _RunnerGone(_why_gone(handed, directory))
        faults.point("after-go")
        runner = handed.runner()
        faults.point("after-started")
    except DeployError:
        handed.close()
        raise
    return runner


def _why_gone(handed: HandOver, directory: Path) -> str:
    """Return why there is no runner any more that could go on: the fork server has forked none, or it has ended."""
    try:
        handed.runner()
    except DeployError as error:
        return str(error)
    reason = last_error(runner_errors(directory))
    return "the runner ended before it could start the flow" + (f": {reason}" if reason else "")


def _ask(server: ForkServer, intent: Intent) -> HandOver:
    error = _package_error(server, intent.run.spec)
    if error is not None:
        raise error
    assert intent.lock_fd is not None, "an intent holds its lock until its runner does"
    return _hand_over(server, intent, intent.lock_fd)


def _hand_over(server: ForkServer, intent: Intent, lock_fd: int) -> HandOver:
    """Hand the run over; the cgroup that was reserved for it is then its own for good."""
    run, intent.give_back = intent.run, None
    if run.cgroup is not None:
        cgroups.create(run.cgroup, run.limits, run.spec.weights.cpu)
    return server.hand_over(run.directory.path, lock_fd, run.cgroup, apart=run.spec.isolation.wanted)


def _note_how(run: Run, server: ForkServer) -> None:
    """Write to the run's log how it was started, when that was not by the usual fork."""
    if run.spec.kind != KIND_COMMAND:
        for number, sentence in enumerate(how_started(server.runtime, server.wait_ready())):
            run.note(sentence, logging.INFO, f"start-{number}", run.deployed_at)


def _package_error(server: ForkServer, spec: RunSpec) -> DeployError | None:
    """Return the error, which says what to do, if the run's engine needs a package that is missing there."""
    package = package_of(spec.kind)
    failed = server.wait_ready(spec.flow_run_id).get("failed", {})
    return package.import_error(server.runtime.interpreter, failed) if package is not None else None

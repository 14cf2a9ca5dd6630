"""Kills the processes of a run whose runner has ended or does not react. A working runner does this itself."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable

import psutil

from flowherd.host.processes import process_tree
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd_runner.contract import identity

#: How long to go on killing, seconds. SIGKILL takes longer only for a process that is stuck in the kernel.
_DEADLINE_S = 3.0


def end_tree(
    run_id: str, *, runner: RunnerProcess | None, session: int | None, known: Iterable[psutil.Process] = ()
) -> int:
    """Kill all processes of the run except the runner itself, and return how many there were.

    A process belongs to the run if it is below the living `runner`, is in session `session`, has the run's tracking
    variable, or is in `known`, the processes seen below the runner earlier. Give `session` only right after the
    runner's end: once the session is empty, its id may be reused. `known` cannot lead to another process with the same
    pid, because psutil compares the creation time before it signals. Repeats until no process is found, so that one
    that forks while it is being killed does not escape. Gives up after three seconds.
    """
    killed: set[int] = set()
    deadline_s = time.monotonic() + _DEADLINE_S
    pending = {process.pid: process for process in known}
    while time.monotonic() < deadline_s:
        members = _members(run_id, runner, session, pending)
        if not members:
            break
        _kill(members)
        killed.update(process.pid for process in members)
        psutil.wait_procs(members, timeout=0.2)
        pending = {process.pid: process for process in members}
    return len(killed)


def _members(
    run_id: str, runner: RunnerProcess | None, session: int | None, known: dict[int, psutil.Process]
) -> list[psutil.Process]:
    alive = {process.pid: process for process in psutil.process_iter(["status"]) if not _is_gone(process)}
    found = {pid for pid, process in known.items() if alive.get(pid) == process}
    found.update(identity.members_by_variable(run_id, list(alive)))
    if session is not None:
        found.update(pid for pid in alive if identity.session_of(pid) == session)
    if runner is not None:
        if runner.alive:
            found.update(process.pid for process in process_tree.look({run_id: runner.pid})[run_id].processes)
        found.discard(runner.pid)
    return [alive[pid] for pid in found if pid in alive]


def _is_gone(process: psutil.Process) -> bool:
    return process.info["status"] in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def _kill(members: list[psutil.Process]) -> None:
    # Stop all first, so that none can fork while the others are being killed.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in members:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

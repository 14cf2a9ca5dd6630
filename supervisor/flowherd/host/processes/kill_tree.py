"""Kills the processes of a run whose runner has ended or does not react. A working runner does this itself."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from flowherd.host.processes import process_tree
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.store.survivors import Survivor, survivor
from flowherd_runner.contract import identity

#: How long to go on killing, seconds. SIGKILL takes longer only for a process that is stuck in the kernel.
_DEADLINE_S = 3.0


@dataclass(frozen=True, kw_only=True)
class TreeEnd:
    """What the killing of a run's processes came to."""

    #: Number of processes that were killed and are gone.
    killed: int = 0
    #: Processes that still live: they may not be signalled, or hang in the kernel.
    survivors: tuple[Survivor, ...] = ()


def end_tree(
    run_id: str,
    *,
    runner: RunnerProcess | None,
    session: int | None,
    known: Iterable[psutil.Process] = (),
    init_pid: int | None = None,
) -> TreeEnd:
    """Kill all processes of the run except the runner itself; then look for those that still live.

    The init process of the run's pid namespace, `init_pid`, is left to the kernel, which ends it with the runner.

    A process belongs to the run if it is below the living `runner`, is in session `session`, has the run's tracking
    variable, or is in `known`, the processes seen below the runner earlier. Give `session` only right after the
    runner's end: once the session is empty, its id may be reused. `known` cannot lead to another process with the same
    pid, because psutil compares the creation time before it signals. Repeats until no process is found that may be
    signalled, so that one that forks while it is being killed does not escape. Gives up after three seconds.
    """
    killed: set[int] = set()
    refused: set[psutil.Process] = set()
    deadline_s = time.monotonic() + _DEADLINE_S
    pending = {process.pid: process for process in known}
    while True:
        found = [one for one in _members(run_id, runner, session, pending) if one.pid != init_pid]
        members = [process for process in found if process not in refused]
        if not members or time.monotonic() >= deadline_s:
            break
        refused.update(_kill(members))
        killed.update(process.pid for process in members)
        psutil.wait_procs([process for process in members if process not in refused], timeout=0.2)
        pending.update({process.pid: process for process in found})
    survivors = [one for one in (survivor(process.pid) for process in found) if one is not None]
    return TreeEnd(killed=len(killed - {one.pid for one in survivors}), survivors=tuple(survivors))


def foreign_members(session: int, since_ticks: int) -> list[Survivor]:
    """Return the processes of `session`, started since `since_ticks`, that this user may not signal.

    They are to be named and left alone: the environment of another user's process cannot be read, and the id of an
    empty session may have been reused (setsid(2)).
    """
    found = (survivor(pid) for pid in psutil.pids() if identity.session_of(pid) == session)
    return [one for one in found if one is not None and one.refused and one.start_ticks >= since_ticks]


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


def _kill(members: list[psutil.Process]) -> list[psutil.Process]:
    """Kill these, and return those that may not be signalled."""
    refused = []
    # Stop all first, so that none can fork while the others are being killed.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in members:
            try:
                process.send_signal(number)
            except psutil.AccessDenied:
                refused.append(process)
            except psutil.Error:  # ended meanwhile
                continue
    return refused

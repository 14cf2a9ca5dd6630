"""Which run a process belongs to, seen from outside: by its ancestors, its session, its cgroup or its environment."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flowherd_runner.contract import identity
from flowherd_runner.contract.variables import NO_RUN_ID, RUN_ID_VARIABLE


@dataclass(frozen=True, kw_only=True)
class KnownProcesses:
    """The processes below which there are only runs."""

    #: Ids of runs by the pids of their runners, which are also the ids of their sessions.
    runners: Mapping[int, str] = field(default_factory=dict)
    #: Ids of runs by the names of their cgroups.
    cgroups: Mapping[str, str] = field(default_factory=dict)
    #: Pids of fork servers; runners that are not known yet, and spare ones, are below them.
    fork_servers: Collection[int] = ()


def belongs_to(pid: int, known: KnownProcesses) -> str | None:
    """Return what the process belongs to, as in "flow run ID"; None if to no run, as far as can be seen.

    A process that has left its run's tree, session and cgroup, and has not its environment any more, is not recognised;
    nor is one of a run of another agent that has emptied its environment.
    """
    if (session := identity.session_of(pid)) is not None and session in known.runners:
        return f"flow run {known.runners[session]}"
    for ancestor in _upwards(pid):
        if ancestor in known.runners:
            return f"flow run {known.runners[ancestor]}"
        if ancestor in known.fork_servers:
            return "a flow run that is being started"
    by_cgroup = next((known.cgroups[name] for name in _cgroup_names(pid) if name in known.cgroups), None)
    carried = by_cgroup or next((run_id for _, run_id in identity.carriers([pid], _Foreign())), None)
    return f"flow run {carried}" if carried is not None else None


class _Foreign:
    """The ids of all runs, except the one that this process itself may belong to."""

    def __contains__(self, run_id: object) -> bool:
        return run_id not in (NO_RUN_ID, os.environ.get(RUN_ID_VARIABLE))


def _upwards(pid: int) -> Iterator[int]:
    """Yield the process and its ancestors, up to this process and without it."""
    seen: set[int] = set()
    while pid > 1 and pid != os.getpid() and pid not in seen:
        yield pid
        seen.add(pid)
        status = identity.process_status(pid)
        pid = status[0] if status is not None else 0


def _cgroup_names(pid: int) -> tuple[str, ...]:
    try:
        text = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ()
    return tuple(name for line in text.splitlines() for name in line.split("/")[1:])

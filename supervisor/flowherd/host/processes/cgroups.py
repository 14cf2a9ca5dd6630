"""Gives each run a cgroup of its own if the agent may create cgroups (version 2; the kernel's cgroup-v2.rst).

A cgroup limits and kills processes of a run that the process table does not reveal as such. Nothing depends on it: a
missing controller or a refused call is ignored, and the run is then supervised as without a cgroup.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from flowherd_runner.contract.messages import SPARE_CGROUP
from flowherd_runner.contract.spec import RunLimits

#: How long to try to remove a cgroup, seconds; the kernel counts a killed process for a moment longer.
_REMOVE_DEADLINE_S = 2.0
#: Pause between two tries to remove a cgroup, seconds.
_LOOK_S = 0.02
#: Minimum age of a cgroup that `sweep` removes, seconds.
_SWEEP_AGE_S = 60.0
_PREFIX = "flowherd-"
#: What runs' cgroups get where they can: limits of memory and of processes, and figures of memory and of I/O.
CONTROLLERS = ("memory", "pids", "io")
#: Added to a run's memory limit: the runner is in the cgroup too, and the agent's own limit must take effect first.
_MEMORY_ROOM_BYTES = 32 * 1024 * 1024
#: pids.max counts threads, but a run's limit counts processes and is enforced by the agent. pids.max only has to stop a
#: fork bomb between two looks, so it leaves enough room for programs with many threads.
_THREADS_PER_PROCESS = 32
#: Period over which processor time is limited (the kernel's default), and the smallest quota that it takes, µs.
_PERIOD_US = 100_000
_LEAST_QUOTA_US = 1000
_PIDS_ROOM = 64


class Cgroups:
    """The cgroups of the runs, below `parent`, an existing cgroup in which this process may create others."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        #: Controllers that are enabled for the children of `parent`.
        self.controllers = frozenset(_words(parent / "cgroup.subtree_control"))

    def path_for(self, run_id: str, attempt: str) -> Path:
        """Return the path of the cgroup for one start of a run, which need not exist."""
        return self.parent / f"{_PREFIX}{run_id}-{attempt}"

    def sweep(self) -> None:
        """Remove cgroups of runs whose spec was lost: only empty ones, and none that a runner may be about to enter."""
        for path in self.parent.glob(f"{_PREFIX}*-*-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_ctime > _SWEEP_AGE_S:
                    path.rmdir()  # the kernel refuses while a process is in it


def create(path: Path, limits: RunLimits, cores: float | None = None) -> bool:
    """Create the cgroup `path`, with those limits for which it has a controller. Return whether it exists.

    The controller of processor time is enabled when the first run wants a number of `cores`: with it, runs also share
    the processors by cgroup instead of by process.
    """
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        logger.debug("Cannot create the cgroup {}: {}", path, error)
        return False
    memory, processes = limits.memory_bytes, limits.processes
    if memory is not None and (path / "memory.max").exists():
        _write(path / "memory.max", int(memory) + _MEMORY_ROOM_BYTES)
    if processes is not None and (path / "pids.max").exists():
        _write(path / "pids.max", int(processes) * _THREADS_PER_PROCESS + _PIDS_ROOM)
    if cores is not None:
        if not (path / "cpu.max").exists():
            _write(path.parent / "cgroup.subtree_control", "+cpu")
        if (path / "cpu.max").exists():
            _write(path / "cpu.max", f"{max(_LEAST_QUOTA_US, round(cores * _PERIOD_US))} {_PERIOD_US}")
    return True


def checked_path(named: str | None, run_id: str) -> Path | None:
    """Return the cgroup that a run's spec names; None unless it is one of a run, because the file may be damaged."""
    if named is None or "\0" in named:
        return None
    path, mount_point = Path(named), _mount_point()
    if ".." in path.parts or not path.name.startswith((f"{_PREFIX}{run_id}-", SPARE_CGROUP)):
        return None
    return path if mount_point is not None and path.is_relative_to(mount_point) else None


@functools.cache
def _mount_point() -> Path | None:
    """Return where cgroups are mounted, as found when it was first needed: for each run, so not looked up each time."""
    mount = _mount()
    return None if mount is None else mount[1]


def kill(path: Path) -> None:
    """Have the kernel kill all processes in the cgroup and below (cgroup.kill, Linux 5.14)."""
    if path.is_dir():
        _write(path / "cgroup.kill", 1)


def clear(path: Path) -> tuple[int, list[int]]:
    """Kill the processes that are left in the cgroup and remove it.

    Returns how many there were, and the pids of those that still live.
    """
    with contextlib.suppress(OSError):  # refused while a process or another cgroup is in it (cgroup-v2.rst)
        path.rmdir()
        return 0, []
    strays = len(_pids(path))
    if strays:
        kill(path)
    if not remove(path):
        logger.warning("The cgroup {} cannot be removed", path)
    return strays, _pids(path)


def remove(path: Path, timeout_s: float = _REMOVE_DEADLINE_S) -> bool:
    """Remove the cgroup once it is empty. Returns False if it still exists after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while path.is_dir() and not _removed(path):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _pids(path: Path) -> list[int]:
    if not path.is_dir():
        return []
    return [int(word) for procs in path.rglob("cgroup.procs") for word in _words(procs) if word != "0"]


@dataclass(frozen=True)
class DelegatedPlace:
    """A cgroup below which a process may create others. `is_free` if no process is directly in it."""

    path: Path
    is_free: bool

    @property
    def controllers(self) -> frozenset[str]:
        """Controllers that cgroups below it have or can get."""
        return frozenset(_words(self.path / ("cgroup.controllers" if self.is_free else "cgroup.subtree_control")))


def find_and_sweep() -> Cgroups | None:
    """Return the cgroups that runs can have, after removing those of lost runs; None if there are none."""
    found = find_delegated()
    if found is not None:
        found.sweep()
        logger.debug("Runs get cgroups below {}, controllers: {}", found.parent, sorted(found.controllers))
    return found


def find_delegated() -> Cgroups | None:
    """Return where this process may create cgroups, after enabling the controllers; None if it may not create any."""
    place = delegated_place("self")
    if place is None:
        return None
    if place.is_free:
        _enable(place.path)
    return Cgroups(place.path)


def delegated_place(pid: int | str, proc: Path = Path("/proc")) -> DelegatedPlace | None:
    """Return where the process may create cgroups; None if no place is delegated to it. Changes nothing.

    systemd marks the cgroups that it delegates (systemd.resource-control(5), Delegate=). With DelegateSubgroup= the
    process is in a leaf below the marked cgroup, and only then may controllers be enabled for runs beside that leaf: if
    the marked cgroup held processes itself, the next start of the service would fail. A process at the top of its own
    cgroup namespace, as in a container, needs no mark.
    """
    mount = _mount(proc)
    own = _own_cgroup(pid, proc, mount) if mount is not None else None
    if own is None or mount is None:
        return None
    if own != mount[1] and _is_marked(own.parent) and os.access(own.parent, os.W_OK):
        return DelegatedPlace(own.parent, is_free=True)
    if (_is_marked(own) or own == mount[1]) and os.access(own, os.W_OK):
        return DelegatedPlace(own, is_free=False)
    return None


def leaf_beside_runs(pid: int | str = "self", proc: Path = Path("/proc")) -> Path | None:
    """Return the cgroup that holds the process and no run; None if it has no such one (DelegateSubgroup=)."""
    place = delegated_place(pid, proc)
    mount = _mount(proc)
    return None if place is None or not place.is_free or mount is None else _own_cgroup(pid, proc, mount)


def _is_marked(path: Path) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _enable(parent: Path) -> None:
    # One by one, because a user's systemd has no io. Figures of processor time need no controller.
    for controller in CONTROLLERS:
        if controller not in _words(parent / "cgroup.subtree_control"):
            _write(parent / "cgroup.subtree_control", f"+{controller}")


def _own_cgroup(pid: int | str, proc: Path, mount: tuple[str, Path]) -> Path | None:
    """Return the cgroup of the process in the unified hierarchy (cgroups(7): "0::PATH" below the cgroup2 mount)."""
    with contextlib.suppress(OSError, StopIteration):
        own = next(line[3:] for line in _lines(proc / str(pid) / "cgroup") if line.startswith("0::"))
        if (own + "/").startswith(mount[0].rstrip("/") + "/"):
            path = mount[1] / own.removeprefix(mount[0].rstrip("/")).strip("/")
            return path if path.is_dir() else None
    return None


def _mount(proc: Path = Path("/proc")) -> tuple[str, Path] | None:
    """Return the cgroup at the root of the cgroup2 mount, and the mount point (proc(5), mountinfo)."""
    with contextlib.suppress(OSError):
        for fields in map(str.split, _lines(proc / "self" / "mountinfo")):
            if "-" in fields and fields[fields.index("-") + 1] == "cgroup2":
                return fields[3], Path(fields[4])
    return None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()


def _words(path: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return path.read_text().split()
    return []


def _write(path: Path, value: int | str) -> bool:
    try:
        path.write_text(str(value))
    except OSError as error:
        logger.debug("Cannot write {} into {}: {}", value, path, error)
        return False
    return True


def _removed(path: Path) -> bool:
    """Try to remove a cgroup and those below it, deepest first. Return whether it is gone."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)  # noqa: PTH106 - os.walk yields strings
    return not path.is_dir()

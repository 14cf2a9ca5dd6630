"""A cgroup of its own for each run, where this agent may make one (cgroup v2, docs: kernel's cgroup-v2.rst).

It bounds and ends what belongs to a run beyond what the process table shows. Nothing depends on it: every controller
that is missing, and every call that the kernel refuses, leaves things as they are without cgroups.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from loguru import logger

from flowherd_runner.contract.spec import RunLimits

#: The kernel still counts a killed process for a moment.
_REMOVE_DEADLINE_S = 2.0
_LOOK_S = 0.02
_SWEEP_AGE_S = 60.0
_PREFIX = "flowherd-"
#: The runner is in its run's cgroup too, and a limit that the agent enforces itself is to be met first.
_MEMORY_ROOM_BYTES = 32 * 1024 * 1024
#: pids.max counts threads; a run's limit counts processes, which the agent enforces. This stops a fork bomb between
#: two looks, and no program with threads.
_THREADS_A_PROCESS = 32
_PIDS_ROOM = 64


class Cgroups:
    """Makes cgroups below `parent`, an existing cgroup in which this process may make others."""

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        #: Controllers that the children of `parent` have.
        self.controllers = frozenset(_words(parent / "cgroup.subtree_control"))

    def path_for(self, run_id: str, attempt: str) -> Path:
        """Where the cgroup of one start of a run is, whether it is there or not."""
        return self.parent / f"{_PREFIX}{run_id}-{attempt}"

    def sweep(self) -> None:
        """Take away what runs left whose spec was lost: only empty ones, and none that may be entered just now."""
        for path in self.parent.glob(f"{_PREFIX}*-*-*"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_ctime > _SWEEP_AGE_S:
                    path.rmdir()  # refused by the kernel while anybody is in it


def create(path: Path, limits: RunLimits) -> bool:
    """Make the cgroup `path` with the limits that the controllers there can hold; whether it is there."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        logger.debug("No cgroup {}: {}", path, error)
        return False
    memory, processes = limits.memory_bytes, limits.processes
    if memory is not None and (path / "memory.max").exists():
        _write(path / "memory.max", int(memory) + _MEMORY_ROOM_BYTES)
    if processes is not None and (path / "pids.max").exists():
        _write(path / "pids.max", int(processes) * _THREADS_A_PROCESS + _PIDS_ROOM)
    return True


def checked_path(named: str | None, run_id: str) -> Path | None:
    """Return the cgroup that a run's spec names, if it can be that run's: a file must not lead to any other."""
    mount = None if named is None or "\0" in named else _mount()
    if named is None or mount is None:
        return None
    path = Path(named)
    if ".." in path.parts or not path.is_relative_to(mount[1]) or not path.name.startswith(f"{_PREFIX}{run_id}-"):
        return None
    return path


def kill(path: Path) -> None:
    """Have the kernel kill all that is in the cgroup and below (cgroup.kill, Linux 5.14)."""
    if path.is_dir():
        _write(path / "cgroup.kill", 1)


def clear(path: Path) -> int:
    """Kill what is left in the cgroup, take it away, and return how many processes there were."""
    strays = sum(len(_words(procs)) for procs in path.rglob("cgroup.procs")) if path.is_dir() else 0
    if strays:
        kill(path)
    deadline_s = time.monotonic() + _REMOVE_DEADLINE_S
    while path.is_dir() and not _removed(path):
        if time.monotonic() > deadline_s:
            logger.warning("The cgroup {} cannot be removed", path)
            break
        time.sleep(_LOOK_S)
    return strays


@dataclass(frozen=True)
class Place:
    """A cgroup below which a process may make others; `is_free` when no process stands in it itself."""

    path: Path
    is_free: bool

    @property
    def controllers(self) -> frozenset[str]:
        """What cgroups below it have, or can be given."""
        return frozenset(_words(self.path / ("cgroup.controllers" if self.is_free else "cgroup.subtree_control")))


def find_delegated() -> Cgroups | None:
    """Where this process may make cgroups, with all controllers that it may enable; None where it may make none."""
    place = delegated_place("self")
    if place is None:
        return None
    if place.is_free:
        _enable(place.path)
    return Cgroups(place.path)


def delegated_place(pid: int | str, proc: Path = Path("/proc")) -> Place | None:
    """Where the process may make cgroups; None where nobody has handed it a place. Changes nothing.

    systemd marks what it delegates (systemd.resource-control(5), Delegate=). With DelegateSubgroup= the process stands
    in a leaf below the marked one, and only then controllers can be enabled for runs beside it: in a cgroup that holds
    processes itself the next start of the service would fail. At the top of its own cgroup namespace, as in a
    container, there is nobody else to ask.
    """
    mount = _mount(proc)
    own = _own_cgroup(pid, proc)
    if own is None or mount is None:
        return None
    if own != mount[1] and _is_marked(own.parent) and os.access(own.parent, os.W_OK):
        return Place(own.parent, is_free=True)
    if (_is_marked(own) or own == mount[1]) and os.access(own, os.W_OK):
        return Place(own, is_free=False)
    return None


def _is_marked(path: Path) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if os.getxattr(path, name) == b"1":
                return True
    return False


def _enable(parent: Path) -> None:
    for controller in ("memory", "pids"):
        if controller not in _words(parent / "cgroup.subtree_control"):
            _write(parent / "cgroup.subtree_control", f"+{controller}")


def _own_cgroup(pid: int | str, proc: Path) -> Path | None:
    """Where the process stands in the unified hierarchy (cgroups(7): "0::PATH" below the mount of type cgroup2)."""
    mount = _mount(proc)
    with contextlib.suppress(OSError, StopIteration):
        own = next(line[3:] for line in _lines(proc / str(pid) / "cgroup") if line.startswith("0::"))
        if mount is not None and (own + "/").startswith(mount[0].rstrip("/") + "/"):
            path = mount[1] / own.removeprefix(mount[0].rstrip("/")).strip("/")
            return path if path.is_dir() else None
    return None


def _mount(proc: Path = Path("/proc")) -> tuple[str, Path] | None:
    """Which cgroup the mount of type cgroup2 shows, and where (proc(5), mountinfo)."""
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
    """Try to remove a cgroup and all below it, deepest first; they hold no files of their own."""
    for directory, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)  # noqa: PTH106 - os.walk gives texts
    return not path.is_dir()

"""What this host gives: room on its disks, limits, and what its kernel offers."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd.host.processes.cgroups import delegated_place

_LITTLE_ROOM_BYTES, _NO_ROOM_BYTES = 1 << 30, 100 << 20
_FEW_INODES, _NO_INODES = 10_000, 1_000
#: The agent has two descriptors a run, and a flow its own.
_FEW_FILES = 4096
_FEW_PROCESSES = 1024
_FEW_PIDS = 8192
_PR_GET_CHILD_SUBREAPER = 37
_CONTROLLERS = ("memory", "pids")


def check_disk(name: str, place: Path) -> Iterator[Finding]:
    """Room and inodes of the file system on which `place` is, or will be."""
    there = next(path for path in (place, *place.parents) if path.exists())
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    words = f"{free / 2**30:.1f} GiB are free for {place}"
    advice = "make room: a run needs its directory and its log, and none is claimed once they cannot be written"
    grade = bad if free < _NO_ROOM_BYTES else warn if free < _LITTLE_ROOM_BYTES else None
    yield grade(name, words, advice) if grade else ok(name, words)
    if status.f_files:  # some file systems (btrfs) count none
        words = f"{status.f_favail} inodes are free for {place}"
        grade = bad if status.f_favail < _NO_INODES else warn if status.f_favail < _FEW_INODES else None
        yield grade(f"{name} inodes", words, advice) if grade else ok(f"{name} inodes", words)


def check_limits(agent_pid: int | None) -> Iterator[Finding]:
    """Of the agent where it runs, else of this shell, which may have others."""
    whose = f"of the agent (pid {agent_pid})" if agent_pid is not None else "of this shell"
    for name, kind, few in (
        ("open files", resource.RLIMIT_NOFILE, _FEW_FILES),
        ("processes", resource.RLIMIT_NPROC, _FEW_PROCESSES),
    ):
        soft, hard = _limit(agent_pid, kind)
        words = f"{_number(soft)} {whose}, at most {_number(hard)}"
        if soft == resource.RLIM_INFINITY or soft >= few:
            yield ok(name, words)
        else:
            option = "LimitNOFILE / minfds" if kind == resource.RLIMIT_NOFILE else "LimitNPROC / minprocs"
            yield warn(name, words, f"raise it: `ulimit` in the shell, {option} in the systemd unit / supervisord.conf")
    pids = int(Path("/proc/sys/kernel/pid_max").read_text())
    used = sum(1 for entry in Path("/proc").iterdir() if entry.name.isdigit())
    words = f"kernel.pid_max is {pids}, {used} are used"
    yield ok("pids", words) if pids - used >= _FEW_PIDS else warn("pids", words, "raise it: `sysctl kernel.pid_max`")


def check_kernel() -> Iterator[Finding]:
    """What holding processes by their identity and ending whole trees rests on."""
    try:
        os.close(os.pidfd_open(os.getpid()))
        yield ok("pidfd", "there: a run's end is known at once")
    except (AttributeError, OSError) as error:
        yield warn("pidfd", f"not there ({error})", "Linux 5.3 has it; without, a run's end is seen 50 ms later")
    flag = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), zero, zero, zero) == 0:
        yield ok("sub-reaper", "there: what a flow starts and leaves is found and ended")
    else:
        words = f"prctl: {os.strerror(ctypes.get_errno())}"
        yield bad("sub-reaper", words, "Linux 3.4 has it; a sandbox (seccomp) may forbid it")


def check_cgroup(agent_pid: int | None, proc: Path = Path("/proc")) -> Finding:
    """Whether a run can get a cgroup of its own, for its limits and its end; all holds without, less exactly."""
    advice = "run the agent as a systemd service with Delegate=yes (`flowherd install systemd`); all holds without, by "
    advice += "watching the processes"
    whose = "the agent" if agent_pid is not None else "this shell"
    place = delegated_place("self" if agent_pid is None else agent_pid, proc)
    if place is None:
        return warn("cgroup", f"nobody has handed {whose} a cgroup (v2) to divide", advice)
    missing = [name for name in _CONTROLLERS if name not in place.controllers]
    if missing:
        words = f"{place.path} is {whose}'s to divide, but gives its runs no controller {', '.join(missing)}"
        return warn("cgroup", words, f"DelegateSubgroup= in the unit; or {advice}")
    return ok("cgroup", f"{place.path} is {whose}'s to divide, with {', '.join(_CONTROLLERS)}")


def _limit(pid: int | None, kind: int) -> tuple[int, int]:
    try:
        return resource.prlimit(pid or 0, kind)
    except OSError:  # ended meanwhile, or another user's
        return resource.getrlimit(kind)


def _number(limit: int) -> str:
    return "any number" if limit == resource.RLIM_INFINITY else str(limit)

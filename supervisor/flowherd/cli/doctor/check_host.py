"""Checks what this host offers: free space on its disks, resource limits, features of its kernel."""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from flowherd.cli.doctor.finding import Finding, bad, ok, warn
from flowherd_runner.contract.identity import is_hidden_when_closed

#: Less free space than the first is a warning, than the second is bad; likewise free inodes.
_LITTLE_SPACE_BYTES, _NO_SPACE_BYTES = 1 << 30, 100 << 20
_FEW_INODES, _NO_INODES = 10_000, 1_000
#: Lower limits than these are a warning. The agent has two descriptors per run, and a flow has its own.
_FEW_FILES = 4096
_FEW_PROCESSES = 1024
_FEW_PIDS = 8192
_PR_GET_CHILD_SUBREAPER = 37


def check_disk(name: str, place: Path) -> Iterator[Finding]:
    """Check free space and inodes of the file system on which `place` is, or will be."""
    existing = next(path for path in (place, *place.parents) if path.exists())
    status = os.statvfs(existing)
    free = status.f_bavail * status.f_frsize
    detail = f"{free / 2**30:.1f} GiB are free for {place}"
    advice = "free some space: a run needs its directory and its log, and none is claimed once they cannot be written"
    grade = bad if free < _NO_SPACE_BYTES else warn if free < _LITTLE_SPACE_BYTES else None
    yield grade(name, detail, advice) if grade else ok(name, detail)
    if status.f_files:  # some file systems (btrfs) do not count inodes
        detail = f"{status.f_favail} inodes are free for {place}"
        grade = bad if status.f_favail < _NO_INODES else warn if status.f_favail < _FEW_INODES else None
        yield grade(f"{name} inodes", detail, advice) if grade else ok(f"{name} inodes", detail)


def check_limits(agent_pid: int | None) -> Iterator[Finding]:
    """Check the limits of the agent if it runs, else those of this shell, which may differ."""
    whose = f"of the agent (pid {agent_pid})" if agent_pid is not None else "of this shell"
    for name, kind, few in (
        ("open files", resource.RLIMIT_NOFILE, _FEW_FILES),
        ("processes", resource.RLIMIT_NPROC, _FEW_PROCESSES),
    ):
        soft, hard = _limit(agent_pid, kind)
        detail = f"limit {whose}: {_number(soft)}, can be raised to {_number(hard)}"
        if soft == resource.RLIM_INFINITY or soft >= few:
            yield ok(name, detail)
        else:
            option = "LimitNOFILE / minfds" if kind == resource.RLIMIT_NOFILE else "LimitNPROC / minprocs"
            advice = f"raise it: `ulimit` in the shell, {option} in the systemd unit / supervisord.conf"
            yield warn(name, detail, advice)
    pids = int(Path("/proc/sys/kernel/pid_max").read_text())
    used = sum(1 for entry in Path("/proc").iterdir() if entry.name.isdigit())
    detail = f"kernel.pid_max is {pids}, {used} are used"
    yield ok("pids", detail) if pids - used >= _FEW_PIDS else warn("pids", detail, "raise it: `sysctl kernel.pid_max`")


def check_kernel() -> Iterator[Finding]:
    """Check for the kernel's means to identify processes safely and to end whole process trees."""
    try:
        os.close(os.pidfd_open(os.getpid()))
        yield ok("pidfd", "available: the end of a run is noticed at once")
    except (AttributeError, OSError) as error:
        advice = "Linux 5.3 has it; without it, the end of a run is noticed 50 ms later"
        yield warn("pidfd", f"not available ({error})", advice)
    flag = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), zero, zero, zero) == 0:
        yield ok("sub-reaper", "available: processes that a flow leaves behind are found and ended")
    else:
        detail = f"prctl: {os.strerror(ctypes.get_errno())}"
        yield bad("sub-reaper", detail, "Linux 3.4 has it; a sandbox (seccomp) may forbid it")


def check_inspection() -> Finding:
    """Check whether other processes of this user are kept from reading fork servers and runners."""
    if not is_hidden_when_closed():
        return ok("inspection", "agent, fork servers and runners are closed to other processes of their user")
    detail = "fork servers and runners can be read by other processes of this user: /proc is mounted with hidepid"
    advice = "mount /proc with gid= of a group of this user; otherwise closed runners would be hidden from their agent"
    return warn("inspection", detail, advice)


def _limit(pid: int | None, kind: int) -> tuple[int, int]:
    try:
        return resource.prlimit(pid or 0, kind)
    except OSError:  # ended in the meantime, or another user's
        return resource.getrlimit(kind)


def _number(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)

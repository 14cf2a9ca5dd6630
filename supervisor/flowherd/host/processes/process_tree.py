"""Finds the processes that belong to each run, and what they use.

The runner is a sub-reaper, so everything that its flow starts stays below it, even after a double fork or in a session
of its own (prctl(2), PR_SET_CHILD_SUBREAPER). In a run with a pid namespace the namespace's init process, a child of
the runner, has that part. It is flowherd's own, so its pid is given in `inits`, by run id, and it is left out of trees.

Two ways lead down from a runner. A pass over the process table (`look`) costs the same for one run and for many, and
grows with the host. `TreeReader` follows the lists of children that the kernel keeps for each thread (proc(5),
/proc/PID/task/TID/children), so it reads nothing of processes that belong to no run.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import psutil

from flowherd_runner.contract import identity

#: Time between two passes over the process table by a `TreeReader`, seconds.
_FULL_PASS_S = 60.0
#: After this many looks in a row at which a run slept, a `TreeReader` reads it only at every fourth look.
_ASLEEP_LOOKS = 20
_ASLEEP_EVERY = 4
#: Longer parts of a list of children than this may be followed by others; the kernel hands out a page at most.
_WHOLE_LIST_BYTES = 2048
_READ_BYTES = 4096
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
#: States of processes of which only the exit status is left, unless other threads live than the first.
_GONE = (b"Z", b"X")
#: What schedstat says of a process that has not run yet, and of all on a kernel that does not count.
_NO_RUN_TIME = b"0 0 0\n"
_NO_INITS: Mapping[str, int] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run's process tree uses now; the runner itself is not counted."""

    memory_bytes: int = 0
    cpu_time_s: float = 0.0
    processes: int = 0
    peak_memory_bytes: int = 0
    #: Number of processes that are counted with their resident set (RSS) in an exact figure, because their share (PSS)
    #: could not be read.
    resident: int = 0


class Member(NamedTuple):
    """Identity of a process in this boot."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, kw_only=True)
class ProcessTree:
    """The processes below one runner at one moment, and what they use together."""

    usage: Usage
    members: tuple[Member, ...] = ()

    @property
    def processes(self) -> tuple[psutil.Process, ...]:
        """Handles of those processes that still exist."""
        return tuple(_handles(self.members))


class TreeReader:
    """Looks at the trees of the same runs again and again.

    Reads the lists of children, and passes over the process table once a minute; every time if `lists_children` is
    False, as it is by default on a kernel without these lists (CONFIG_PROC_CHILDREN). Of a run of which no process has
    run since the last look, the last tree is returned. After some such looks it is also returned without reading, up to
    three times in a row, except for runs in `closely`. A list can miss a process that appears, or whose parent ends,
    while it is read: the next look finds it.
    """

    def __init__(self, *, lists_children: bool | None = None) -> None:
        self._lists_children = has_children_lists() if lists_children is None else lists_children
        self._next_full_pass_s = time.monotonic() + _FULL_PASS_S
        self._last: dict[str, _Look] = {}
        #: Number of looks in a row at which no process of a run had run, by run id.
        self._slept: Counter[str] = Counter()
        self._looks = 0

    def look(
        self, runners: Mapping[str, int], closely: Container[str] = (), inits: Mapping[str, int] = _NO_INITS
    ) -> dict[str, ProcessTree]:
        """Return the trees below these runners, as the function `look` does; never older ones of runs in `closely`."""
        if not self._lists_children or time.monotonic() >= self._next_full_pass_s:
            self._next_full_pass_s = time.monotonic() + _FULL_PASS_S
            self._last = {}
            return look(runners, inits)
        self._looks += 1
        looks: dict[str, _Look] = {}
        slept: Counter[str] = Counter()
        for place, (run_id, runner) in enumerate(runners.items()):
            last, init = self._last.get(run_id), inits.get(run_id)
            count = self._slept[run_id]
            rests = count >= _ASLEEP_LOOKS and (self._looks + place) % _ASLEEP_EVERY != 0 and run_id not in closely
            if (
                last is not None
                and (last.runner, last.init) == (runner, init)
                and (rests or _have_slept(last.run_times))
            ):
                looks[run_id] = last
                slept[run_id] = count + 1
            else:
                looks[run_id] = _look_below(runner, init)
        self._last, self._slept = looks, slept
        return {run_id: last.tree for run_id, last in looks.items()}


def look(runners: Mapping[str, int], inits: Mapping[str, int] = _NO_INITS) -> dict[str, ProcessTree]:
    """Return the trees below these runners (run id to pid), from one pass; a run without processes has an empty tree.

    Memory is the sum of resident sets, which counts shared pages once for each process: cheap, and never too low.
    `exact_usage` returns the exact figure.
    """
    table: dict[int, ProcessStatus] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - thousands of names
        status = status_of(int(name)) if name.isdigit() else None
        if status is not None:
            table[status.pid] = status
            children.setdefault(status.parent, []).append(status.pid)
    return {
        run_id: _tree(table[pid] for pid in _below(runner, children) if pid != inits.get(run_id))
        for run_id, runner in runners.items()
    }


def has_children_lists() -> bool:
    """Return whether the kernel keeps lists of children."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110 - once for each reader


def exact_usage(tree: ProcessTree) -> Usage:
    """Return the tree's usage with shared pages divided among their users (PSS, proc(5) smaps_rollup).

    A forked run shares its fork server's modules with all other runs; these must not count as exceeding a limit. Of
    a process that this user may not inspect (sudo, set-uid programs, one that is not dumpable) only the resident set
    can be read, so that counts in full, and `resident` says so.
    """
    total = resident = 0
    for process in tree.processes:
        try:
            share = _proportional_bytes(process)
            total += int(process.memory_info().rss) if share is None else share
            resident += share is None
        except psutil.Error:  # ended meanwhile
            continue
    return replace(tree.usage, memory_bytes=total, resident=resident)


def _proportional_bytes(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return None


def _handles(members: Iterable[Member]) -> Iterator[psutil.Process]:
    for member in members:
        try:
            process = psutil.Process(member.pid)
        except psutil.Error:
            continue
        # Looked at after the handle was made: that then belongs to this process and to no later one of the same pid.
        status = identity.process_status(member.pid)
        if status is not None and status[1] == member.start_ticks:
            yield process


class ProcessStatus(NamedTuple):
    """What /proc/PID/stat says of a process (proc(5))."""

    pid: int
    parent: int
    #: CPU time of the process and of its children that were waited for, clock ticks.
    ticks: int
    threads: int
    start_ticks: int
    #: Whether the first thread has ended; the process lives on if it has others.
    is_zombie: bool

    def resident_pages(self) -> int:
        """Return the resident set; statm has it exact, while stat may miss megabytes on many processors."""
        if not self.is_zombie:
            return _pages_in(f"/proc/{self.pid}/statm")
        if self.threads == 1:
            return 0
        # Only the threads that live still have the memory.
        return max((_pages_in(f"/proc/{self.pid}/task/{thread}/statm") for thread in _threads(self.pid)), default=0)


def status_of(pid: int) -> ProcessStatus | None:
    """Return the status of a process; None if there is none, or if it is hidden from this user."""
    data = _content(f"/proc/{pid}/stat")
    if data is None:
        return None
    fields = data[data.rindex(b")") + 2 :].split(b" ", 20)
    return ProcessStatus(
        pid=pid,
        parent=int(fields[1]),
        ticks=int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14]),
        threads=int(fields[17]),
        start_ticks=int(fields[19]),
        is_zombie=fields[0] in _GONE,
    )


class _Look(NamedTuple):
    """What was found below one runner."""

    runner: int
    init: int | None
    tree: ProcessTree
    #: Content of /proc/PID/schedstat by path (time on a processor, sched-stats.rst of the kernel), read before anything
    #: else of the process. As long as all are the same, no process has run, so none has started another or used more
    #: memory. Empty if that does not follow: a process has several threads, or had ended or got another parent when it
    #: was looked at.
    run_times: Mapping[str, bytes]


def _have_slept(run_times: Mapping[str, bytes]) -> bool:
    """Return whether no process has run since then; False if that is not known."""
    return bool(run_times) and all(_content(path) == content for path, content in run_times.items())


def _look_below(runner: int, init: int | None) -> _Look:
    """Look at the processes below the runner, by the lists of children."""
    found: dict[int, ProcessStatus] = {}
    run_times: dict[str, bytes] = {}
    is_certain = True
    todo = [(child, runner) for child in _children(runner, _threads(runner))]
    while todo:
        pid, parent = todo.pop()
        if pid == init:
            todo += [(child, pid) for child in _children(pid, [pid])]
            continue
        path = f"/proc/{pid}/schedstat"
        run_time = _content(path)
        status = status_of(pid)
        # A process of another parent got the pid meanwhile, unless this one was adopted.
        if status is None or status.parent not in (parent, runner, init) or pid in found:
            is_certain = False
            continue
        threads = _threads(pid) if status.threads > 1 else [] if status.is_zombie else [pid]
        found[pid] = status
        todo += [(child, pid) for child in _children(pid, threads)]
        if status.threads > 1 or run_time is None or run_time == _NO_RUN_TIME:
            is_certain = False
        else:
            run_times[path] = run_time
    return _Look(runner, init, _tree(found.values()), run_times if is_certain else {})


def _below(runner: int, children: Mapping[int, list[int]]) -> list[int]:
    found: list[int] = []
    todo = [runner]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _tree(statuses: Iterable[ProcessStatus]) -> ProcessTree:
    pages, ticks, members = 0, 0, []
    for status in statuses:
        pages += status.resident_pages()
        ticks += status.ticks
        members.append(Member(status.pid, status.start_ticks))
    usage = Usage(memory_bytes=pages * _PAGE_BYTES, cpu_time_s=ticks / _TICKS_PER_S, processes=len(members))
    return ProcessTree(usage=usage, members=tuple(members))


def _pages_in(path: str) -> int:
    data = _content(path)
    return int(data.split(b" ", 2)[1]) if data else 0


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - for each run at each look
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return []


def _children(pid: int, threads: Iterable[int]) -> Iterator[int]:
    for thread in threads:
        data = _content(f"/proc/{pid}/task/{thread}/children", whole=True)
        if data:
            yield from map(int, data.split())


def _content(path: str, *, whole: bool = False) -> bytes | None:
    """Return the beginning of a file of /proc, or all of it; None if the process has ended or is hidden.

    These calls take a third of the time of a file object, and there may be thousands of files.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    try:
        data = part = os.read(fd, _READ_BYTES)
        while whole and len(part) > _WHOLE_LIST_BYTES:
            part = os.read(fd, _READ_BYTES)
            data += part
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    return data

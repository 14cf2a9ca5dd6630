"""Reads the process table once for all runs: which processes belong to each run, and what they use.

The runner is a sub-reaper, so everything that its flow starts stays below it, even after a double fork or in a session
of its own (prctl(2), PR_SET_CHILD_SUBREAPER).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import psutil


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run's process tree uses now; the runner itself is not counted."""

    memory_bytes: int = 0
    cpu_time_s: float = 0.0
    processes: int = 0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class ProcessTree:
    """The processes below one runner at one moment, and what they use together."""

    usage: Usage
    processes: tuple[psutil.Process, ...] = ()


def look(runners: Mapping[str, int]) -> dict[str, ProcessTree]:
    """Return the trees below these runners (run id to pid), from one pass; a run without processes has an empty tree.

    Memory is the sum of resident sets, which counts shared pages once for each process: cheap, and never too low.
    `exact_usage` returns the exact figure.
    """
    table = {process.pid: process for process in psutil.process_iter(["ppid"])}
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.info["ppid"], []).append(pid)
    return {run_id: _tree(table[pid] for pid in _below(runner, children)) for run_id, runner in runners.items()}


def exact_usage(tree: ProcessTree) -> Usage:
    """Return the tree's usage with shared pages divided among their users (PSS, proc(5) smaps_rollup).

    A forked run shares its fork server's modules with all other runs; these must not count as exceeding a limit. Of
    another user's process (sudo, set-uid programs) only the resident set can be read, so that counts in full.
    """
    total = 0
    for process in tree.processes:
        try:
            total += _proportional_bytes(process)
        except psutil.Error:  # ended meanwhile
            continue
    return replace(tree.usage, memory_bytes=total)


def _proportional_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)


def _below(runner: int, children: Mapping[int, list[int]]) -> list[int]:
    found: list[int] = []
    todo = [runner]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _tree(processes: Iterable[psutil.Process]) -> ProcessTree:
    memory, cpu_time_s, members = 0, 0.0, []
    for process in processes:
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
        except psutil.Error:  # ended meanwhile
            continue
        cpu_time_s += times.user + times.system + times.children_user + times.children_system
        members.append(process)
    usage = Usage(memory_bytes=memory, cpu_time_s=cpu_time_s, processes=len(members))
    return ProcessTree(usage=usage, processes=tuple(members))

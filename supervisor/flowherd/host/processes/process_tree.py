"""One pass over the process table for all runs together: which processes are a run's, and what they use.

The runner is a sub-reaper, so whatever its flow starts stays below it, double forks and new sessions too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import psutil

from flowherd.host.limits import Usage


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The processes below one runner at one moment, and what they use together."""

    usage: Usage
    processes: tuple[psutil.Process, ...] = ()


def look(runners: Mapping[str, int]) -> dict[str, Tree]:
    """The trees below these runners (run id to pid), from one pass; a run without processes is an empty tree.

    Memory is the sum of resident sets, which counts shared pages once a process: cheap, and never too low.
    `exact_usage` tells the exact figure.
    """
    table = {process.pid: process for process in psutil.process_iter(["ppid"])}
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.info["ppid"], []).append(pid)
    return {run_id: _tree(table[pid] for pid in _below(runner, children)) for run_id, runner in runners.items()}


def exact_usage(tree: Tree) -> Usage:
    """The tree's usage with shared pages divided among those who share them (PSS, proc(5) smaps_rollup).

    A forked run shares its fork server's modules with all others; a limit is not to be breached by those.
    """
    total = 0
    for process in tree.processes:
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # ended meanwhile, or not ours to read: what is not seen is not held against the run
            continue
    return replace(tree.usage, memory_bytes=total)


def _below(runner: int, children: Mapping[int, list[int]]) -> list[int]:
    found: list[int] = []
    todo = [runner]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _tree(processes: Iterable[psutil.Process]) -> Tree:
    memory, cpu_time_s, members = 0, 0.0, []
    for process in processes:
        try:
            with process.oneshot():
                memory += process.memory_info().rss
                times = process.cpu_times()
        except psutil.Error:  # ended between the pass and the look
            continue
        cpu_time_s += times.user + times.system + times.children_user + times.children_system
        members.append(process)
    usage = Usage(memory_bytes=memory, cpu_time_s=cpu_time_s, processes=len(members))
    return Tree(usage=usage, processes=tuple(members))

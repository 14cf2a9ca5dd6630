"""What the agent shows and reports of a run that goes on: its processes and what they use."""

from __future__ import annotations

import time
from typing import Any

from flowherd.host.processes.cgroup_figures import read_figures
from flowherd.host.processes.process_list import list_processes
from flowherd.host.run import Run
from flowherd.story.live import RunFigures


def run_figures(run: Run, *, with_tree: bool = False) -> RunFigures:
    """Return the figures of a run, from the last look at it; with its processes one by one if `with_tree`."""
    tree, usage, limits, now = run.tree, run.tree.usage, run.limits, time.time()
    started_at = run.started_at or run.deployed_at
    return RunFigures(
        id=run.id,
        at=round(now, 1),
        memory_bytes=usage.memory_bytes,
        peak_memory_bytes=usage.peak_memory_bytes,
        memory_limit_bytes=limits.memory_bytes,
        cpu_time_s=round(usage.cpu_time_s, 2),
        cpu_share=run.meter.cpu_share(),
        processes=usage.processes,
        processes_limit=limits.processes,
        last_line_at=round(max(run.directory.written_at() or 0.0, started_at.timestamp()), 1),
        idle_since=round(run.meter.idle_since, 1),
        grace_s=run.grace_s,
        stopping=run.stop.reason if run.stop is not None else "",
        pid=run.flow_pid,
        tree=list_processes(tree) if with_tree else (),
    )


def run_stats(run: Run, *, with_tree: bool = False) -> dict[str, Any]:
    """Return the run as the agent's API shows it: `RunFigures` as JSON, and what else belongs to it.

    `with_tree` adds its processes, and the figures of its cgroup if it has one.
    """
    counted = {"cgroup": read_figures(run.cgroup).as_json()} if with_tree and run.cgroup is not None else {}
    return {
        **run_figures(run, with_tree=with_tree).as_json(),
        "name": run.name,
        "flow": run.flow_name,
        "state": run.state.value,
        "pid": run.flow_pid,
        "runner_pid": run.runner.pid if run.runner is not None else None,
        "deployed_at": run.deployed_at.isoformat(),
        "started_at": run.started_at.isoformat() if run.started_at is not None else None,
        "stopping": run.stop.reason if run.stop is not None else None,
        **counted,
    }

"""What the agent's API shows of a run: its processes and what they use."""

from __future__ import annotations

from typing import Any

from flowherd.host.run import Run


def run_stats(run: Run) -> dict[str, Any]:
    """Return the run as the API shows it, with what its processes use now."""
    usage = run.tree.usage
    return {
        "id": run.id,
        "name": run.name,
        "flow": run.flow_name,
        "state": run.state.value,
        "pid": run.flow_pid,
        "runner_pid": run.runner.pid if run.runner is not None else None,
        "deployed_at": run.deployed_at.isoformat(),
        "memory_bytes": usage.memory_bytes,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "cpu_time_s": round(usage.cpu_time_s, 2),
        "processes": usage.processes,
        "stopping": run.stop.reason if run.stop is not None else None,
    }

"""Whether a run uses more than it may. The runner enforces time, open files and CPU; memory and processes are ours."""

from __future__ import annotations

from dataclasses import dataclass

from flowherd_runner.contract import reasons
from flowherd_runner.contract.spec import RunLimits


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a run's process tree uses now; the runner itself is not counted."""

    memory_bytes: int = 0
    cpu_time_s: float = 0.0
    processes: int = 0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A limit that was passed: the reason word of the contract and one sentence with both figures."""

    reason: str
    detail: str


def breach(usage: Usage, limits: RunLimits) -> Breach | None:
    """The first limit of a run's spec that `usage` passes, if any."""
    memory = limits.memory_bytes
    if memory is not None and usage.memory_bytes > memory:
        return Breach(
            reason=reasons.REASON_MEMORY,
            detail=f"Memory limit exceeded: {mebibytes(usage.memory_bytes)} in {_count(usage.processes)}, "
            f"the limit is {mebibytes(memory)}.",
        )
    processes = limits.processes
    if processes is not None and usage.processes > processes:
        return Breach(
            reason=reasons.REASON_PROCESSES,
            detail=f"Process limit exceeded: {_count(usage.processes)}, the limit is {processes}.",
        )
    return None


def mebibytes(count: int) -> str:
    """`count` bytes for a reader."""
    return f"{count / 2**20:.1f} MiB"


def _count(processes: int) -> str:
    return f"{processes} process" + ("" if processes == 1 else "es")

"""What the kernel counts for a cgroup (v2; the kernel's cgroup-v2.rst and psi.rst). Reading changes nothing.

Processor time and pressure are there for every cgroup; memory and I/O only where their controllers are enabled.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flowherd.host.processes.cgroups import leaf_beside_runs


@dataclass(frozen=True, kw_only=True)
class CgroupFigures:
    """All processes of a cgroup, also those that have ended. What its kernel or its controllers do not tell is None."""

    #: Processor time, seconds.
    cpu_s: float | None = None
    #: Memory with page cache and what the kernel holds for it, the highest so far, and the limit, bytes.
    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    memory_limit_bytes: int | None = None
    #: Read from and written to disks, bytes.
    read_bytes: int | None = None
    written_bytes: int | None = None
    #: Share of the last ten seconds in which some of its processes waited, by cpu, memory and io: 1.0 is all of it.
    pressure: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is known as JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_figures(cgroup: Path) -> CgroupFigures:
    """Return the figures of a cgroup; those of one that is gone are all None."""
    usage = _keyed(cgroup / "cpu.stat").get("usage_usec")
    disks = _per_disk(cgroup / "io.stat")
    return CgroupFigures(
        cpu_s=None if usage is None else round(usage / 1e6, 2),
        memory_bytes=_number(cgroup / "memory.current"),
        memory_peak_bytes=_number(cgroup / "memory.peak"),
        memory_limit_bytes=_number(cgroup / "memory.max"),
        read_bytes=None if disks is None else sum(disk.get("rbytes", 0) for disk in disks),
        written_bytes=None if disks is None else sum(disk.get("wbytes", 0) for disk in disks),
        pressure={
            name: share
            for name in ("cpu", "memory", "io")
            if (share := _some_of_ten_seconds(cgroup / f"{name}.pressure")) is not None
        },
    )


def own_memory_bytes() -> int | None:
    """Return the memory of the cgroup in which this process is beside those of runs, bytes; None if there is none.

    It contains the fork servers, and whatever else this process started for itself.
    """
    leaf = _own_leaf()
    return None if leaf is None else _number(leaf / "memory.current")


@functools.cache
def _own_leaf() -> Path | None:
    return leaf_beside_runs()


def _text(path: Path) -> str | None:
    with contextlib.suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace")
    return None


def _number(path: Path) -> int | None:
    text = (_text(path) or "").strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _keyed(path: Path) -> dict[str, int]:
    pairs = [line.split() for line in (_text(path) or "").splitlines()]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _per_disk(path: Path) -> list[dict[str, int]] | None:
    text = _text(path)
    if text is None:
        return None
    words = [[word.partition("=") for word in line.split()[1:]] for line in text.splitlines()]
    return [{name: int(value) for name, _, value in disk if value.isdigit()} for disk in words]


def _some_of_ten_seconds(path: Path) -> float | None:
    for line in (_text(path) or "").splitlines():
        if line.startswith("some "):
            with contextlib.suppress(ValueError, IndexError):
                return round(float(line.split("avg10=")[1].split()[0]) / 100, 4)
    return None

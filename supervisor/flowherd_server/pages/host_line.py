"""The host line of the overview: how this host is, and was in the last hour."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass

from flowherd.host_figures import HostFigures, HostHistory

#: Samples of a sparkline.
_SAMPLES = 60


@dataclass(frozen=True)
class HostLine:
    """What the line shows."""

    name: str
    now: HostFigures
    #: The last hour, oldest first: load; memory in use, bytes; time that something waited for a disk, percent.
    loads: Sequence[float]
    memory: Sequence[int]
    pressure: Sequence[float]


def host_line(history: HostHistory) -> HostLine | None:
    """Return the line; None before the server has looked at its host."""
    kept = list(history.all)
    if not kept:
        return None
    step = -(-len(kept) // _SAMPLES)
    shown = kept[::-step][::-1]
    return HostLine(
        name=platform.node(),
        now=kept[-1],
        loads=[one.load or 0.0 for one in shown],
        memory=[(one.memory_total_bytes or 0) - (one.memory_available_bytes or 0) for one in shown],
        pressure=[one.io_some or 0.0 for one in shown],
    )

"""How this host is, for the head of the screen; its load is remembered from look to look."""

from __future__ import annotations

import socket
from collections import deque
from pathlib import Path

from flowherd.cli.top.picture import HostFigures
from flowherd.host_figures import read_host

#: Number of earlier loads that are shown.
_MOST_LOADS = 60


class HostReader:
    """Reads this host, and the disk of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loads: deque[float] = deque(maxlen=_MOST_LOADS)
        self.name = socket.gethostname().partition(".")[0]

    def read(self) -> HostFigures:
        """Return how the host is now."""
        found = read_host({"data": self._directory})
        if found.load is not None:
            self._loads.append(found.load)
        total, available = found.memory_total_bytes, found.memory_available_bytes
        waits = {"cpu": found.cpu_some, "io": found.io_some, "mem": found.memory_full}
        return HostFigures(
            load=found.load,
            cpus=found.cpus,
            memory_used=None if total is None or available is None else total - available,
            memory_total=total,
            disk_free=found.disks[0].free_bytes if found.disks else None,
            is_disk_low=bool(found.disks) and found.disks[0].is_low,
            lacks_memory=found.lacks_memory,
            pressure={name: share for name, share in waits.items() if share is not None},
            up_s=found.uptime_s,
            load_history=list(self._loads),
        )

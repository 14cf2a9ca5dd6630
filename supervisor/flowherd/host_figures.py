"""How a host is: load, memory, disks, pressure, uptime. Read from /proc and statvfs(3), in a fraction of a millisecond.

Shared by server, agent, metrics and terminal view. What a kernel does not tell is None.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flowherd.story.sent_values import NUMBER, WHOLE, Kind, readable

#: A disk with less room than one of these is low: a part of its size, and bytes.
LOW_PART, LOW_BYTES = 0.1, 2 * 2**30
#: Share of the last minute in which all processes waited for memory from which on the host lacks memory, percent.
LACKS_MEMORY_PERCENT = 10.0
#: Time between two looks that are kept, and how long they are kept, seconds.
STEP_S, KEEP_S = 10.0, 3600.0
_MAX_TEXT, _MOST_DISKS = 500, 8


@dataclass(frozen=True, kw_only=True)
class DiskFigures:
    """The file system of one directory."""

    #: What the directory is for, as "data" or "state", and where it is.
    name: str
    path: str
    total_bytes: int
    #: Bytes that this user may still write, and inodes that are free; None if the file system has no fixed number.
    free_bytes: int
    free_inodes: int | None = None

    @property
    def is_low(self) -> bool:
        """Whether less than 10 % or less than 2 GiB are free, of a disk below 4 GiB less than half; or no inode."""
        least = max(self.total_bytes * LOW_PART, min(LOW_BYTES, self.total_bytes / 2))
        return self.free_bytes < least or self.free_inodes == 0


@dataclass(frozen=True, kw_only=True)
class HostFigures:
    """One host at one moment."""

    #: When this was true, seconds since the epoch.
    at: float
    #: Load average over one minute, and the number of processors.
    load: float | None = None
    cpus: int | None = None
    memory_total_bytes: int | None = None
    #: What can be used without swapping (MemAvailable of /proc/meminfo).
    memory_available_bytes: int | None = None
    #: Share of the last minute in which some process waited for a processor, for memory and for a disk, and in which
    #: all did, percent (/proc/pressure).
    cpu_some: float | None = None
    memory_some: float | None = None
    memory_full: float | None = None
    io_some: float | None = None
    io_full: float | None = None
    #: Time since the host was started, seconds.
    uptime_s: float | None = None
    disks: tuple[DiskFigures, ...] = ()

    @property
    def lacks_memory(self) -> bool:
        """Whether all processes have waited for memory for 10 % of the last minute."""
        return self.memory_full is not None and self.memory_full > LACKS_MEMORY_PERCENT

    def as_json(self) -> dict[str, Any]:
        """Return the figures as they are sent, without what is not known."""
        found = {name: value for name, value in asdict(self).items() if value is not None}
        return {**found, "disks": [asdict(disk) for disk in self.disks]}


def read_host(directories: Mapping[str, Path | None]) -> HostFigures:
    """Look at this host, and at the file systems of these directories, by what they are for. Raises nothing."""
    memory = _meminfo()
    cpu_some, _ = _pressure("cpu")
    memory_some, memory_full = _pressure("memory")
    io_some, io_full = _pressure("io")
    return HostFigures(
        at=round(time.time(), 1),
        load=_load(),
        cpus=os.cpu_count(),
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        cpu_some=cpu_some,
        memory_some=memory_some,
        memory_full=memory_full,
        io_some=io_some,
        io_full=io_full,
        uptime_s=_first_number("/proc/uptime"),
        disks=tuple(
            found for name, path in directories.items() if path is not None and (found := _disk(name, path)) is not None
        ),
    )


def _disk(name: str, path: Path) -> DiskFigures | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    size = found.f_frsize
    inodes = found.f_favail if found.f_files else None
    total, free = found.f_blocks * size, found.f_bavail * size
    return DiskFigures(name=name, path=str(path), total_bytes=total, free_bytes=free, free_inodes=inodes)


def _load() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def _meminfo() -> dict[str, int]:
    """Return the sizes in /proc/meminfo, bytes."""
    sizes = {}
    for line in _text("/proc/meminfo").splitlines()[:3]:  # the total, what is free, and what is available
        name, _, rest = line.partition(":")
        number = rest.split()[:1]
        if number and number[0].isdigit():
            sizes[name] = int(number[0]) * 1024
    return sizes


def _pressure(of: str) -> tuple[float | None, float | None]:
    """Return avg60 of "some" and "full" of a file of /proc/pressure (psi.rst of the kernel), percent."""
    found: dict[str, float] = {}
    for line in _text(f"/proc/pressure/{of}").splitlines():
        kind, *fields = line.split()
        for field in fields:
            if field.startswith("avg60="):
                found[kind] = float(field[6:])
    return found.get("some"), found.get("full")


def _first_number(path: str) -> float | None:
    words = _text(path).split()[:1]
    return float(words[0]) if words else None


def _text(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:  # noqa: PTH123 - every few seconds
            return file.read()
    except OSError:  # an older kernel, or one that hides it
        return ""


_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("cpus", "memory_total_bytes", "memory_available_bytes"), WHOLE),
    **dict.fromkeys(("at", "load", "cpu_some", "memory_some", "memory_full", "io_some", "io_full"), NUMBER),
    "uptime_s": NUMBER,
}
_DISK_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("name", "path"), str),
    **dict.fromkeys(("total_bytes", "free_bytes", "free_inodes"), WHOLE),
}
_NEEDED = {"name", "path", "total_bytes", "free_bytes"}


def read_host_figures(value: Any) -> HostFigures | None:
    """Return the figures in a value that was sent or stored; None if it is none. What cannot be read is left out."""
    found = readable(value, _KINDS) if isinstance(value, Mapping) else {}
    if "at" not in found:
        return None
    listed = value["disks"] if isinstance(value.get("disks"), list) else []
    disks = [readable(one, _DISK_KINDS, _MAX_TEXT) for one in listed[:_MOST_DISKS] if isinstance(one, Mapping)]
    return HostFigures(**found, disks=tuple(DiskFigures(**one) for one in disks if one.keys() >= _NEEDED))


class HostHistory:
    """What `read` has found in the last hour, if `look` is called now and then. Usable from any thread."""

    def __init__(self, read: Callable[[], HostFigures]) -> None:
        self._read = read
        self._kept: deque[HostFigures] = deque(maxlen=round(KEEP_S / STEP_S))

    def look(self) -> HostFigures:
        """Look at the host and keep what is found."""
        found = self._read()
        self._kept.append(found)
        return found

    @property
    def newest(self) -> HostFigures | None:
        """The newest figures; None before the first look."""
        return self._kept[-1] if self._kept else None

    @property
    def all(self) -> Sequence[HostFigures]:
        """All that is kept, oldest first."""
        return list(self._kept)

"""Gauges that agent and server have both."""

from __future__ import annotations

import platform
from collections.abc import Iterator

from flowherd import __version__
from flowherd.host_figures import HostFigures
from flowherd.metrics.families import Part
from flowherd.metrics.tally import Sample


def build_info(part: Part) -> Sample:
    """Return the family that says which program this is."""
    return Sample("flowherd_build_info", 1.0, (part.value, __version__, platform.python_version()))


def host_samples(host: HostFigures) -> Iterator[Sample]:
    """Return the families of the host; what its kernel does not tell is left out."""
    plain = {
        "flowherd_host_cpus": host.cpus,
        "flowherd_host_load1": host.load,
        "flowherd_host_memory_bytes": host.memory_total_bytes,
        "flowherd_host_memory_available_bytes": host.memory_available_bytes,
    }
    yield from (Sample(family, float(value)) for family, value in plain.items() if value is not None)
    for disk in host.disks:
        yield Sample("flowherd_host_disk_bytes", float(disk.total_bytes), (disk.name,))
        yield Sample("flowherd_host_disk_free_bytes", float(disk.free_bytes), (disk.name,))
    pressure = {
        ("cpu", "some"): host.cpu_some,
        ("memory", "some"): host.memory_some,
        ("memory", "full"): host.memory_full,
        ("io", "some"): host.io_some,
        ("io", "full"): host.io_full,
    }
    for labels, percent in pressure.items():
        if percent is not None:
            yield Sample("flowherd_host_pressure_ratio", percent / 100, labels)

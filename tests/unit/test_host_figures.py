"""How a host is, read from the kernel and from what another process has sent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowherd.host_figures import DiskFigures, HostFigures, HostHistory, read_host, read_host_figures

GIB = 2**30


def test_this_host_has_memory_a_load_and_the_disk_of_a_directory(tmp_path: Path) -> None:
    found = read_host({"state": tmp_path, "none": None, "missing": tmp_path / "missing"})
    assert found.memory_total_bytes is not None and found.memory_available_bytes is not None
    assert 0 < found.memory_available_bytes <= found.memory_total_bytes
    assert found.load is not None and found.cpus and found.uptime_s
    assert [(disk.name, disk.path) for disk in found.disks] == [("state", str(tmp_path))]
    assert 0 <= found.disks[0].free_bytes <= found.disks[0].total_bytes
    assert read_host_figures(json.loads(json.dumps(found.as_json()))) == found


@pytest.mark.parametrize(
    ("total", "free", "inodes", "is_low"),
    [
        (1000 * GIB, 200 * GIB, 5, False),
        (1000 * GIB, 90 * GIB, 5, True),
        (10 * GIB, 3 * GIB, 5, False),
        (10 * GIB, 1.9 * GIB, 5, True),
        (1 * GIB, 0.6 * GIB, 5, False),
        (10 * GIB, 9 * GIB, 0, True),
        (10 * GIB, 9 * GIB, None, False),
    ],
)
def test_when_a_disk_is_low(total: float, free: float, inodes: int | None, is_low: bool) -> None:
    disk = DiskFigures(name="x", path="/", total_bytes=int(total), free_bytes=int(free), free_inodes=inodes)
    assert disk.is_low is is_low


def test_a_host_lacks_memory_when_everything_waits_for_it() -> None:
    assert HostFigures(at=1, memory_full=12.0).lacks_memory
    assert not HostFigures(at=1, memory_some=50.0, memory_full=5.0).lacks_memory
    assert not HostFigures(at=1).lacks_memory


@pytest.mark.parametrize("sent", [None, [], "x", {}, {"at": "now"}, {"at": 1, "load": "high", "disks": [5, {}]}])
def test_what_cannot_be_read_is_left_out(sent: Any) -> None:
    assert read_host_figures(sent) in (None, HostFigures(at=1))


def test_an_hour_is_kept() -> None:
    times = iter(range(1000))
    history = HostHistory(lambda: HostFigures(at=next(times)))
    assert history.newest is None
    for _ in range(400):
        history.look()
    assert [found.at for found in history.all] == list(range(40, 400))
    assert history.newest == HostFigures(at=399)

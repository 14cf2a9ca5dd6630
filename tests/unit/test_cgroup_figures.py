"""The figures of a cgroup, from files as Linux 6.1 writes them: with all controllers, and without any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowherd.cli.doctor.check_cgroup import check_cgroup
from flowherd.host.processes import cgroups
from flowherd.host.processes.cgroup_figures import read_figures

CPU = "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
PRESSURE = (
    "some avg10=12.50 avg60=3.10 avg300=0.70 total=9128374\nfull avg10=1.00 avg60=0.20 avg300=0.10 total=123456\n"
)
IO = (
    "259:0 rbytes=1048576 wbytes=4096 rios=20 wios=1 dbytes=0 dios=0\n"
    "253:1 rbytes=1000 wbytes=2000 rios=1 wios=1 dbytes=0 dios=0\n7:0 \n"
)


def write(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name.replace("_", ".", 1)).write_text(text)
    return directory


def test_all_figures_of_a_cgroup_with_controllers(tmp_path: Path) -> None:
    memory = {"memory_current": "104857600\n", "memory_peak": "209715200\n", "memory_max": "314572800\n"}
    pressure = {"cpu_pressure": PRESSURE, "memory_pressure": PRESSURE, "io_pressure": PRESSURE}
    assert read_figures(write(tmp_path, cpu_stat=CPU, io_stat=IO, **memory, **pressure)).as_json() == {
        "cpu_s": 2.5,
        "memory_bytes": 104857600,
        "memory_peak_bytes": 209715200,
        "memory_limit_bytes": 314572800,
        "read_bytes": 1049576,
        "written_bytes": 6096,
        "pressure": {"cpu": 0.125, "memory": 0.125, "io": 0.125},
    }


def test_without_controllers_there_are_cpu_time_and_pressure_and_nothing_is_made_up(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", cpu_stat=CPU, cpu_pressure=PRESSURE)
    assert read_figures(plain).as_json() == {"cpu_s": 2.5, "pressure": {"cpu": 0.125}}
    unlimited = write(tmp_path / "unlimited", memory_max="max\n", io_stat="")
    assert read_figures(unlimited).as_json() == {"read_bytes": 0, "written_bytes": 0, "pressure": {}}
    assert read_figures(tmp_path / "gone").as_json() == {"pressure": {}}


@pytest.mark.parametrize("text", ["", "some\n", "some avg10=x avg60=0\n", "full avg10=1.00\n", "\xff\n"])
def test_a_file_that_says_something_else_is_no_figure(tmp_path: Path, text: str) -> None:
    found = read_figures(write(tmp_path, cpu_stat=text, cpu_pressure=text, io_stat=text, memory_current=text))
    assert (found.cpu_s, found.pressure, found.memory_bytes) == (None, {}, None)


def test_the_agents_own_memory_is_that_of_its_leaf_and_doctor_says_what_runs_lack(tmp_path: Path) -> None:
    """Below a unit with DelegateSubgroup=agent."""
    proc, unit = tmp_path / "proc", tmp_path / "cgroup" / "flowherd.service"
    write(unit, cgroup_controllers="memory pids\n", cgroup_subtree_control="memory pids\n")
    leaf = write(unit / "agent", memory_current=f"{64 << 20}\n")
    (proc / "self").mkdir(parents=True)
    (proc / "77").mkdir()
    (proc / "self" / "mountinfo").write_text(f"36 35 0:30 / {tmp_path / 'cgroup'} rw - cgroup2 cgroup2 rw\n")
    (proc / "77" / "cgroup").write_text("0::/flowherd.service/agent\n")
    try:
        os.setxattr(unit, "user.delegate", b"1")  # the mark of systemd
    except OSError:
        pytest.skip("this file system has no attributes")
    assert cgroups.leaf_beside_runs(77, proc) == leaf
    found = check_cgroup(77, proc)
    assert found.grade == "ok"
    assert "with memory, pids; without io: no figures of I/O; the agent itself uses 64.0 MiB" in found.detail
    write(unit, cgroup_controllers="pids\n")
    found = check_cgroup(77, proc)
    assert (found.grade, "user@.service" in found.advice) == ("warn", True)
    # An older systemd: the agent is in the unit's cgroup itself.
    (proc / "77" / "cgroup").write_text("0::/flowherd.service\n")
    write(unit, cgroup_subtree_control="\n")
    assert cgroups.leaf_beside_runs(77, proc) is None
    assert "254" in check_cgroup(77, proc).advice

"""If cgroups (v2) can be created, each run has its own, which contains its processes and is removed at its end."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.host.processes import cgroups
from flowherd.states import RunState
from flowherd_runner.contract.spec import RunLimits, salvage_spec
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def delegated() -> cgroups.Cgroups:
    found = cgroups.find_delegated()
    if found is None:
        pytest.skip("no cgroup (v2) is delegated to these tests")
    probe = found.path_for(str(uuid.uuid4()), "probe")
    if not cgroups.create(probe, RunLimits()):
        pytest.skip("cgroups cannot be created here")
    cgroups.clear(probe)
    return found


def agent_with(state_dir: Path, backend: MemoryBackend, cgroup: str) -> LocalAgent:
    settings = load_settings({"agent.state_dir": str(state_dir), "agent.cgroup": cgroup})
    return LocalAgent(backend=backend, hostname_label=False, settings=settings)


def cgroup_line(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith("0::"))


def processes_in(cgroup: str) -> list[str]:
    """Return the pids in a cgroup, which its spare runner makes after it was reported."""
    procs = Path(cgroup) / "cgroup.procs"
    return procs.read_text().split() if procs.exists() else []


def test_runner_and_flow_are_in_the_runs_own_cgroup_which_is_removed_afterwards(
    delegated: cgroups.Cgroups, tmp_path: Path
) -> None:
    backend = MemoryBackend()
    limits = {"memory_bytes": 500_000_000, "processes": 10}
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]}, run_config={"limits": limits})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._own_host._registry.get(run_id)
        assert run is not None and run.cgroup is not None and run.runner is not None and run.flow_pid is not None
        assert cgroup_line(run.runner.pid).endswith(run.cgroup.name)
        assert cgroup_line(run.flow_pid).endswith(run.cgroup.name)
        (shown,) = agent._own_host.living_runs([run_id])
        assert shown["cgroup"]["cpu_s"] >= 0
        pressure = {name for name in ("cpu", "memory", "io") if (run.cgroup / f"{name}.pressure").exists()}
        assert set(shown["cgroup"]["pressure"]) == pressure
        assert "cgroup" not in agent._own_host.living_runs()[0], "read without being asked for"
        backend.cancel(run_id)
        assert wait_for_end(backend, run_id) is RunState.CANCELLED
        cgroup = run.cgroup
        wait_until(lambda: not cgroup.exists())


def test_what_only_the_cgroup_connects_with_a_run_is_ended_after_the_run(
    delegated: cgroups.Cgroups, tmp_path: Path
) -> None:
    backend = MemoryBackend()
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        argv = ["sh", "-c", f"until [ -e {tmp_path}/go ]; do sleep 0.02; done"]
        run_id = backend.add_run({"type": "Command", "argv": argv})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._own_host._registry.get(run_id)
        assert run is not None and run.cgroup is not None
        cgroup = run.cgroup
        stray = subprocess.Popen(["sleep", "100"], start_new_session=True)
        (cgroup / "cgroup.procs").write_text(str(stray.pid))
        (tmp_path / "go").touch()
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
        assert stray.wait(10) == -9
        wait_until(lambda: not cgroup.exists())


def test_a_run_lost_with_its_runner_leaves_no_process_in_its_cgroup(delegated: cgroups.Cgroups, tmp_path: Path) -> None:
    """Not even a process that only the cgroup connects with the run: the kernel kills it."""
    backend = MemoryBackend()
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._own_host._registry.get(run_id)
        assert run is not None and run.cgroup is not None and run.runner is not None
        stray = subprocess.Popen(["sleep", "100"], start_new_session=True)
        (run.cgroup / "cgroup.procs").write_text(str(stray.pid))
        subprocess.run(["kill", "-9", str(run.runner.pid)], check=True)
        assert wait_for_end(backend, run_id) is RunState.FAILED
        assert stray.wait(10) == -9
        assert not run.cgroup.exists()


def test_with_cgroups_off_a_run_has_none(tmp_path: Path) -> None:
    backend = MemoryBackend()
    with going(agent_with(tmp_path / "state", backend, "off")) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._own_host._registry.get(run_id)
        assert run is not None and run.cgroup is None and run.flow_pid is not None
        assert run_id not in cgroup_line(run.flow_pid)
        backend.cancel(run_id)
        wait_for_end(backend, run_id)


def test_limits_are_written_if_there_are_controllers_for_them(tmp_path: Path) -> None:
    """A controller that is missing has no files, so plain directories can stand for cgroups."""
    limits = RunLimits(memory_bytes=100, processes=2)
    assert cgroups.create(tmp_path / "none", limits)
    assert list((tmp_path / "none").iterdir()) == []
    both = tmp_path / "both"
    both.mkdir()
    for name in ("memory.max", "pids.max"):
        (both / name).write_text("max")
    assert cgroups.create(both, limits)
    assert int((both / "memory.max").read_text()) == 100 + 32 * 1024 * 1024
    assert int((both / "pids.max").read_text()) == 2 * 32 + 64


@pytest.mark.parametrize(
    "named",
    [
        None,
        5,
        "",
        "/",
        "/etc",
        "{mount}",
        "{mount}/system.slice",
        "{mount}/x/../flowherd-{run}-a/..",
        "flowherd-{run}-a",
    ],
)
def test_a_cgroup_that_is_not_the_runs_own_is_ignored(named: object) -> None:
    run_id = str(uuid.uuid4())
    mount = cgroups._mount()
    if mount is None:
        pytest.skip("no cgroup v2 is mounted here")
    text = named.format(mount=mount[1], run=run_id) if isinstance(named, str) else named
    assert cgroups.checked_path(salvage_spec({"cgroup": text}).cgroup, run_id) is None
    good = f"{mount[1]}/a/flowherd-{run_id}-abc"
    assert cgroups.checked_path(good, run_id) == Path(good)
    assert cgroups.checked_path(good, str(uuid.uuid4())) is None


def test_a_spare_runner_is_in_a_cgroup_already_which_the_next_run_gets_and_none_is_left(
    delegated: cgroups.Cgroups, tmp_path: Path
) -> None:
    backend = MemoryBackend()
    flow = tmp_path / "flow.py"
    flow.write_text("import time\ndef main(): time.sleep(100)")
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        servers = agent._own_host._surroundings.fork_servers._servers
        (spare,) = wait_until(
            lambda: [path for one in servers.values() for path in one.sort_of_spares(apart=False).cgroups._reported]
        )
        wait_until(lambda: processes_in(spare))
        run_id = backend.add_run({"type": "Python", "ref": f"{flow}:main"})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._own_host._registry.get(run_id)
        assert run is not None and str(run.cgroup) == spare and run.runner is not None and run.flow_pid is not None
        assert cgroup_line(run.runner.pid).endswith(Path(spare).name)
        assert cgroup_line(run.flow_pid).endswith(Path(spare).name)
        backend.cancel(run_id)
        assert wait_for_end(backend, run_id) is RunState.CANCELLED
        wait_until(lambda: not Path(spare).exists())
        (other,) = wait_until(
            lambda: [path for one in servers.values() for path in one.sort_of_spares(apart=False).cgroups._reported]
        )
    assert other != spare and not Path(other).exists()


def test_a_spare_in_a_cgroup_that_was_promised_to_another_run_is_left_for_that_run(
    delegated: cgroups.Cgroups, tmp_path: Path
) -> None:
    backend = MemoryBackend()
    flow = tmp_path / "flow.py"
    flow.write_text("import time\ndef main(): time.sleep(100)")
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        servers = agent._own_host._surroundings.fork_servers._servers
        wait_until(
            lambda: [path for one in servers.values() for path in one.sort_of_spares(apart=False).cgroups._reported]
        )
        (promised,) = [
            path for one in servers.values() if (path := one.sort_of_spares(apart=False).cgroups.reserve()) is not None
        ]
        spare = wait_until(lambda: processes_in(promised))
        run_id = backend.add_run({"type": "Python", "ref": f"{flow}:main"})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._own_host._registry.get(run_id)
        assert run is not None and run.cgroup is not None and run.runner is not None
        assert cgroup_line(run.runner.pid).endswith(run.cgroup.name)
        assert run.cgroup != Path(promised)
        assert set(spare) <= set(processes_in(promised))
        backend.cancel(run_id)
        assert wait_for_end(backend, run_id) is RunState.CANCELLED

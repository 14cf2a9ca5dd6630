"""Where a cgroup (v2) can be made, each run has its own: it is in it, is killed by it, and leaves none behind."""

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
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until


@pytest.fixture
def delegated() -> cgroups.Cgroups:
    found = cgroups.find_delegated()
    if found is None:
        pytest.skip("no cgroup (v2) is delegated to these tests")
    probe = found.path_for(str(uuid.uuid4()), "probe")
    if not cgroups.create(probe, {}):
        pytest.skip("cgroups cannot be made here")
    cgroups.clear(probe)
    return found


def agent_with(state_dir: Path, backend: MemoryBackend, cgroup: str) -> LocalAgent:
    settings = load_settings({"agent.state_dir": str(state_dir), "agent.cgroup": cgroup})
    return LocalAgent(backend=backend, hostname_label=False, settings=settings)


def cgroup_line(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith("0::"))


def test_runner_and_flow_are_in_the_runs_own_cgroup_which_is_gone_afterwards(
    delegated: cgroups.Cgroups, tmp_path: Path
) -> None:
    backend = MemoryBackend()
    limits = {"memory_bytes": 500_000_000, "processes": 10}
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]}, run_config={"limits": limits})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._registry.get(run_id)
        assert run is not None and run.cgroup is not None and run.runner is not None and run.flow_pid is not None
        assert cgroup_line(run.runner.pid).endswith(run.cgroup.name)
        assert cgroup_line(run.flow_pid).endswith(run.cgroup.name)
        backend.cancel(run_id)
        assert wait_for_end(backend, run_id) is RunState.CANCELLED
        assert not run.cgroup.exists()


def test_a_run_lost_with_its_runner_leaves_no_process_in_its_cgroup(delegated: cgroups.Cgroups, tmp_path: Path) -> None:
    """Nor a process that has nothing of the run except the cgroup: the kernel kills it."""
    backend = MemoryBackend()
    with going(agent_with(tmp_path / "state", backend, "auto")) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._registry.get(run_id)
        assert run is not None and run.cgroup is not None and run.runner is not None
        stray = subprocess.Popen(["sleep", "100"], start_new_session=True)
        (run.cgroup / "cgroup.procs").write_text(str(stray.pid))
        subprocess.run(["kill", "-9", str(run.runner.pid)], check=True)
        assert wait_for_end(backend, run_id) is RunState.FAILED
        assert stray.wait(10) == -9
        assert not run.cgroup.exists()


def test_off_makes_none(tmp_path: Path) -> None:
    backend = MemoryBackend()
    with going(agent_with(tmp_path / "state", backend, "off")) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        run = agent._registry.get(run_id)
        assert run is not None and run.cgroup is None and run.flow_pid is not None
        assert run_id not in cgroup_line(run.flow_pid)
        backend.cancel(run_id)
        wait_for_end(backend, run_id)


def test_limits_are_written_where_the_controllers_are_and_passed_over_where_not(tmp_path: Path) -> None:
    """The files of a controller exist or do not; a plain directory shows both."""
    limits = {"memory_bytes": 100, "processes": 2}
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
def test_a_spec_never_leads_to_a_cgroup_that_is_not_its_runs(named: object) -> None:
    run_id = str(uuid.uuid4())
    mount = cgroups._mount()
    if mount is None:
        pytest.skip("no cgroup v2 is mounted here")
    text = named.format(mount=mount[1], run=run_id) if isinstance(named, str) else named
    assert cgroups.named_in({"cgroup": text}, run_id) is None
    good = f"{mount[1]}/a/flowherd-{run_id}-abc"
    assert cgroups.named_in({"cgroup": good}, run_id) == Path(good)
    assert cgroups.named_in({"cgroup": good}, str(uuid.uuid4())) is None

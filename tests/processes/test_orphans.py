"""An agent that is pid 1 or a sub-reaper leaves no zombies, and takes no exit status that belongs to somebody else."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowherd.host.processes import orphans
from flowherd.host.processes.flock import start_program
from tests.support.commands import FLOWHERD, READY, CommandLine
from tests.support.waiting import wait_until

_PR_SET_CHILD_SUBREAPER = 36
#: A program whose child becomes an orphan that ends soon.
_LEAVES_ORPHAN = ["sh", "-c", "sh -c 'sleep 0.2; exit 3' >/dev/null & echo $!"]


@pytest.fixture
def subreaper() -> Iterator[None]:
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


def test_only_pid_1_and_sub_reapers_get_orphans(subreaper: None) -> None:
    assert orphans.gets_orphans()
    done = subprocess.run(
        [sys.executable, "-c", "from flowherd.host.processes.orphans import gets_orphans; print(gets_orphans())"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"  # not inherited


def test_orphans_are_reaped_and_own_children_are_left_to_who_started_them(subreaper: None) -> None:
    own = start_program(["sh", "-c", "exit 7"], env=os.environ, output=subprocess.DEVNULL)
    other = subprocess.run(_LEAVES_ORPHAN, capture_output=True, text=True, check=True)
    orphan = int(other.stdout)
    reaped: list[int] = []
    wait_until(lambda: reaped.extend(orphans.reap()) or orphan in reaped)
    wait_until(lambda: Path(f"/proc/{own.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    assert orphans.reap() == []
    assert own.wait(10) == 7
    assert not Path(f"/proc/{orphan}").exists()


def test_an_agent_that_is_pid_1_leaves_no_zombie_and_obeys_sigterm(tmp_path: Path) -> None:
    """The fork server dies under a run, so that the run's runner becomes an orphan of the agent."""
    probe = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if subprocess.run([*probe, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a pid namespace")
    home = tmp_path / "home"
    home.mkdir()
    command = CommandLine(home, {"FLOWHERD__SERVER__BIND_PORT": "0"})
    output = tmp_path / "out"
    with output.open("wb") as file:
        agent = subprocess.Popen(
            [*probe, *FLOWHERD, "start", "--on-stop", "cancel"],
            env=command.environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
        )  # fmt: skip
    try:
        wait_until(lambda: READY in output.read_text(), timeout_s=40, what=output.read_text)
        (pid,) = (Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text()).split()
        command("register", "nap", "--command", "--", "sh", "-c", "(sleep 0.1 &) ; sleep 6")
        run_id = command.run("nap")
        wait_until(lambda: command.runs()[run_id]["state"] == "Running", timeout_s=30)
        for child in _children(int(pid)):
            if "forkserver" in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(child, 9)
        assert command.wait_for_ends([run_id])[run_id]["state"] == "Success"
        wait_until(lambda: not _zombies(int(pid)), timeout_s=10)
        os.kill(int(pid), 15)
        assert agent.wait(20) == 0, output.read_text()
    finally:
        agent.kill()
        agent.wait()


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _zombies(pid: int) -> list[int]:
    return [c for c in _children(pid) if Path(f"/proc/{c}/stat").read_text().rpartition(")")[2].split()[0] == "Z"]

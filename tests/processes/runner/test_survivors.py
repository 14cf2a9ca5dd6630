"""What a runner may not signal is looked for after the killing, and the exit record names it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowherd_runner.contract import identity
from tests.support.runner import ForkServer, Run
from tests.support.unprivileged import (
    AS_NOBODY,
    NOBODY,
    needs_compiler,
    needs_root,
    needs_setpriv,
    reachable_directory,
    set_uid_program,
)
from tests.support.waiting import wait_until

pytestmark = [needs_root, needs_setpriv, needs_compiler]


@pytest.fixture(scope="module")
def like_sudo() -> Iterator[Path]:
    with reachable_directory() as directory:
        yield set_uid_program(directory)


@pytest.fixture
def start(start_fork_server: Callable[..., ForkServer], tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """Starts commands as `nobody`; what survives them is killed at the end."""
    (tmp_path / "runs").mkdir(mode=0o777)
    (tmp_path / "runs").chmod(0o777)
    server = start_fork_server(prefix=AS_NOBODY)
    runs: list[Run] = []

    def command(*argv: str, **spec: object) -> Run:
        run = server.prepare("command", {"argv": list(argv)}, **spec)
        for path in (run.directory, *run.directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        lock = run.directory / "lock"
        lock.touch(mode=0o600)
        os.chown(lock, NOBODY, NOBODY)
        runs.append(server.start(run))
        return run

    yield command
    for run in runs:
        for one in (run.exit or {}).get("survivors", []):
            os.kill(one["pid"], signal.SIGKILL)


def becomes_root(pid: int) -> bool:
    return identity.user_of(pid) == "root"


def test_a_flow_process_that_may_not_be_signalled_is_given_up_and_named(
    start: Callable[..., Run], like_sudo: Path
) -> None:
    run = start(str(like_sudo), "sleep", "300", grace_s=0.2)
    flow_pid = wait_until(lambda: run.started)["flow_pid"]
    wait_until(lambda: becomes_root(flow_pid))
    run.stop(grace_s=0.2)
    record = run.wait(timeout_s=10)
    assert (record["reason"], record["exit_code"], record["signal"]) == ("cancelled", None, None)
    assert "still runs" in record["evidence"]
    assert (record["leftovers"], record["leftovers_count"]) == ([], 0)
    (one,) = record["survivors"]
    assert (one["pid"], one["name"], one["user"], one["refused"]) == (flow_pid, "sleep", "root", True)
    assert identity.is_alive(one["pid"], one["start_ticks"])
    assert one["boot_id"] == identity.boot_id()


def test_a_time_limit_that_cannot_be_enforced_is_told_when_it_passes(
    start: Callable[..., Run], like_sudo: Path
) -> None:
    run = start(str(like_sudo), "sleep", "300", limits={"run_time_s": 0.5}, grace_s=1.0)
    flow_pid = wait_until(lambda: run.started)["flow_pid"]
    told = f"the flow process sleep (pid {flow_pid}, user root) may not be signalled: it may live on"
    wait_until(lambda: any(told in line for line in run.lines("flowherd")), timeout_s=5, what=run.describe)
    assert run.exit is None, "the line comes when the limit passes, not at the end"
    record = run.wait(timeout_s=10)
    assert record["reason"] == "timeout"
    assert "limit of 0.5 s" in record["evidence"]
    assert [one["pid"] for one in record["survivors"]] == [flow_pid]


def test_what_may_be_signalled_below_a_survivor_is_ended(start: Callable[..., Run], like_sudo: Path) -> None:
    """A root process has started one of the run's own user, which ignores SIGTERM."""
    stubborn = "trap '' TERM; echo stubborn $$; while :; do sleep 0.05; done"
    shell = f'setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups sh -c "$0" & echo shell $$; wait; sleep 300'
    run = start("sh", "-c", f"{like_sudo} sh -c '{shell}' \"$0\" & sleep 300", stubborn, grace_s=0.2)
    wait_until(lambda: len(run.lines("stdout")) == 2, what=run.describe)
    pids = {line.split()[0]: int(line.split()[1]) for line in run.lines("stdout")}
    run.stop(grace_s=0.2)
    record = run.wait(timeout_s=10)
    assert pids["stubborn"] in [one["pid"] for one in record["leftovers"]]
    assert pids["shell"] in [one["pid"] for one in record["survivors"]]
    assert not Path(f"/proc/{pids['stubborn']}").exists()


def test_a_run_that_left_nothing_has_no_survivors(start: Callable[..., Run]) -> None:
    record = start("true").wait()
    assert (record["survivors"], record["leftovers"]) == ([], [])


def test_the_memory_of_another_users_process_counts_towards_the_limit(like_sudo: Path) -> None:
    code = """
import subprocess, sys, psutil
from flowherd.host.processes.process_tree import exact_usage, look
child = subprocess.Popen([sys.argv[1], "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdin.write(b"x"); child.stdin.flush(); child.stdout.read(1)
tree = look({"run": psutil.Process().pid})["run"]
print(tree.usage.processes, tree.usage.memory_bytes, exact_usage(tree).memory_bytes)
child.communicate()
"""
    command = [*AS_NOBODY, sys.executable, "-c", code, str(like_sudo)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    processes, resident, exact = map(int, printed.split())
    assert processes == 1
    assert exact == resident > 0

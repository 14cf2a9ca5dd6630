"""A run's processes have its weights, its runner keeps the agent's, and what the kernel refuses is no start."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flowherd_runner import set_weights
from flowherd_runner.contract.identity import is_alive
from flowherd_runner.contract.weights import Weights
from flowherd_runner.kinds.definition import NotStarted
from tests.support.runner import ForkServer
from tests.support.unprivileged import AS_NOBODY, NOBODY, needs_root, needs_setpriv, reachable_directory
from tests.support.waiting import wait_until

SHOW = (
    "nice; ionice; cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status | cut -f2; "
    'until [ -e "$0" ]; do sleep 0.02; done'
)
WEIGHTS = {"cpu": 0.5, "nice": 7, "io": "best-effort:6", "oom_score_adj": 321}


def own(pid: int) -> tuple[int, str, set[int]]:
    score = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()
    return os.getpriority(os.PRIO_PROCESS, pid), score, os.sched_getaffinity(pid)


def test_a_run_has_its_weights_and_its_runner_keeps_those_of_the_agent(fork_server: ForkServer, tmp_path: Path) -> None:
    run = fork_server.command("sh", "-c", SHOW, str(tmp_path / "go"), weights=WEIGHTS)
    wait_until(lambda: len(run.lines()) == 4, what=run.describe)
    assert is_alive(run.pid, run.start_ticks)
    assert own(run.pid) == own(fork_server.process.pid)
    autogroup = Path(f"/proc/{run.pid}/autogroup")
    assert not autogroup.exists() or autogroup.read_text().endswith(" nice 7\n"), "else it counts within the run only"
    (tmp_path / "go").touch()
    assert run.wait()["exit_code"] == 0
    *shown, processors = run.lines()
    assert shown == ["7", "best-effort: prio 6", "321"]
    assert processors.isdigit() and int(processors) in os.sched_getaffinity(0)


@needs_root
@needs_setpriv
def test_an_ordinary_user_may_only_take_away_from_a_run(start_fork_server: Callable[..., ForkServer]) -> None:
    with reachable_directory() as directory:
        os.chown(directory, NOBODY, NOBODY)
        go = directory / "go"
        go.touch()
        server = start_fork_server(prefix=AS_NOBODY)
        os.chown(server.runs_directory, NOBODY, NOBODY)
        server.runs_directory.chmod(0o755)

        def run(**weights: object) -> tuple[str, list[str]]:
            prepared = server.prepare("command", {"argv": ["sh", "-c", SHOW, str(go)]}, weights=weights)
            for path in (prepared.directory, *prepared.directory.iterdir()):
                os.chown(path, NOBODY, NOBODY)
            record = server.start(prepared).wait()
            return record["evidence"], prepared.lines()[:3]

        assert run(nice=7, io="idle", oom_score_adj=321)[1] == ["7", "idle", "321"]
        assert run(nice=-5)[0].startswith(f"nice -5 cannot be set: Permission denied; the agent has {os.nice(0)}")
        assert run(oom_score_adj=-5)[0].startswith(
            f"oom_score_adj -5 cannot be set: Permission denied; the agent has {own(os.getpid())[1]}"
        )


def test_a_root_that_may_not_is_told_which_capability_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Permission denied")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "setpriority", refused)
    with pytest.raises(NotStarted, match="a lower value needs CAP_SYS_NICE, which this root does not have"):
        set_weights.set_weights(Weights(nice=-5))


def test_affinity_is_for_runs_whose_cgroup_does_not_limit_them(tmp_path: Path) -> None:
    everything = os.sched_getaffinity(0)
    if len(everything) < 2:
        pytest.skip("there is one processor")
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        (tmp_path / "cpu.max").write_text("50000 100000\n")
        set_weights.limit_cores(pid, 0.5, str(tmp_path))
        set_weights.limit_cores(pid, None, None)
        set_weights.limit_cores(pid, 1000.0, None)
        assert os.sched_getaffinity(pid) == everything
        (tmp_path / "cpu.max").write_text("max 100000\n")
        set_weights.limit_cores(pid, 0.5, str(tmp_path))
        assert len(os.sched_getaffinity(pid)) == 1
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

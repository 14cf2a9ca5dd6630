"""Each cause of death has its own message, true and graded, in the state and in the run's log."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.host import verdict
from flowherd.states import RunState
from flowherd.values import StateReport
from flowherd_runner.contract import files, reasons
from flowherd_runner.contract.oom import oom_count
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until


@dataclass
class AgentWithRun:
    """One agent, its backend, and the run that was started last."""

    backend: MemoryBackend
    state_dir: Path
    run_id: str = ""

    def runner_pid(self) -> int:
        return int(json.loads((self.state_dir / "runs" / self.run_id / files.STARTED_FILE).read_text())["pid"])

    def flow_pid(self) -> int:
        return int(json.loads((self.state_dir / "runs" / self.run_id / files.STARTED_FILE).read_text())["flow_pid"])


SLEEP = ["sleep", "100"]
HOG = [sys.executable, "-c", "kept = []\nwhile True: kept.append(bytearray(20_000_000))"]
CROWD = ["sh", "-c", "for i in 1 2 3 4 5 6 7 8; do sleep 100 & done; wait"]


def nothing(agent: AgentWithRun) -> None:
    """Leave the run alone; it ends by itself."""


CAUSES: dict[str, tuple[list[str], dict[str, object], Callable[[AgentWithRun], object], RunState, str, str, str]] = {
    # name: (argv, run_config, what is done, state, reason, grade, part of the message)
    "exit code": (["sh", "-c", "exit 7"], {}, nothing, RunState.FAILED, "exited", "proven", "code 7"),
    "cancel": (
        SLEEP,
        {},
        lambda agent: agent.backend.cancel(agent.run_id),
        RunState.CANCELLED,
        "cancelled",
        "proven",
        "cancelled",
    ),
    "timeout": (
        SLEEP,
        {"limits": {"run_time_s": 0.3}},
        nothing,
        RunState.FAILED,
        "timeout",
        "proven",
        "limit of 0.3 s",
    ),
    "memory": (
        HOG,
        {"limits": {"memory_bytes": 200_000_000}},
        nothing,
        RunState.FAILED,
        "memory_limit",
        "proven",
        "Memory limit",
    ),
    "processes": (
        CROWD,
        {"limits": {"processes": 4}},
        nothing,
        RunState.FAILED,
        "process_limit",
        "proven",
        "Process limit",
    ),
    "foreign TERM to the runner": (
        SLEEP,
        {},
        lambda agent: os.kill(agent.runner_pid(), signal.SIGTERM),
        RunState.FAILED,
        "terminated",
        "proven",
        f"SIGTERM (15) from pid {os.getpid()}",
    ),
    "foreign KILL of the flow": (
        SLEEP,
        {},
        lambda agent: os.kill(agent.flow_pid(), signal.SIGKILL),
        RunState.FAILED,
        "signal",
        "proven",
        "SIGKILL, which flowherd did not send",
    ),
    "foreign KILL of the runner": (
        SLEEP,
        {},
        lambda agent: os.kill(agent.runner_pid(), signal.SIGKILL),
        RunState.FAILED,
        "lost",
        "proven",
        "runner of this flow run was killed",
    ),
}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentWithRun]:
    with running_agent(tmp_path / "state") as agent:
        yield agent


@contextmanager
def running_agent(state_dir: Path, **overrides: object) -> Iterator[AgentWithRun]:
    backend = MemoryBackend()
    settings = load_settings({"agent.state_dir": str(state_dir), "agent.watch_interval": 0.1, **overrides})
    with going(LocalAgent(backend=backend, hostname_label=False, settings=settings)):
        yield AgentWithRun(backend, state_dir)


def start(agent: AgentWithRun, argv: list[str], run_config: dict[str, object]) -> None:
    config = {"grace_s": 0.5, **run_config}
    agent.run_id = agent.backend.add_run({"type": "Command", "argv": argv}, run_config=config)
    wait_until(lambda: agent.backend.state(agent.run_id) is not RunState.SCHEDULED)
    wait_until(lambda: any(report.flow_run_id == agent.run_id for report in agent.backend.history))


def final_report(backend: MemoryBackend, run_id: str) -> StateReport:
    wait_for_end(backend, run_id)
    return [report for report in backend.history if report.flow_run_id == run_id][-1]


def test_every_cause_has_its_own_true_and_graded_message(agent: AgentWithRun) -> None:
    messages = {}
    for name, (argv, config, act, state, reason, grade, word) in CAUSES.items():
        start(agent, argv, config)
        act(agent)
        report = final_report(agent.backend, agent.run_id)
        assert (report.state, report.reason, report.grade) == (state, reason, grade), (name, report)
        assert word in report.message, (name, report.message)
        assert any(report.message.rstrip(".") in line for line in agent.backend.log(agent.run_id)), name
        messages[name] = report.message
    assert len(set(messages.values())) == len(messages)
    assert not any("probable" in message for message in messages.values())


def test_the_agents_stop_is_reported_as_such(tmp_path: Path) -> None:
    with running_agent(tmp_path / "state", **{"agent.on_stop": "cancel"}) as agent:
        start(agent, SLEEP, {})
    report = final_report(agent.backend, agent.run_id)
    assert (report.state, report.reason, report.grade) == (RunState.CANCELLED, "agent_stop", "proven")
    assert "agent was stopped" in report.message


def test_a_reboot_is_seen_by_the_boot_id_and_no_process_is_signalled(tmp_path: Path) -> None:
    """In a copy of a living run's directory the runner's pid belongs to another run, and must be left alone."""
    with running_agent(tmp_path / "first") as first:
        start(first, SLEEP, {})
        copy = str(uuid.uuid4())
        target = tmp_path / "second" / "runs" / copy
        shutil.copytree(first.state_dir / "runs" / first.run_id, target)
        for name in (files.SPEC_FILE, files.STARTED_FILE):
            text = (target / name).read_text().replace(first.run_id, copy)
            record = json.loads(text)
            (target / name).write_text(
                json.dumps({**record, "boot_id": "of yesterday"} if "boot_id" in record else record)
            )
        backend = MemoryBackend()
        with_copy = LocalAgent(
            backend=backend,
            hostname_label=False,
            settings=load_settings({"agent.state_dir": str(tmp_path / "second")}),
        )
        with going(with_copy):
            wait_until(lambda: not target.exists(), what="the end of the copied run")
        assert first.backend.state(first.run_id) is RunState.RUNNING
        first.backend.cancel(first.run_id)
        wait_for_end(first.backend, first.run_id)
    found = verdict.of_lost_runner("of yesterday", "of today", 0)
    assert (found.reason, found.grade) == (reasons.REASON_REBOOT, "proven")


def limited_memory_group() -> Path | None:
    """Make a memory cgroup (v1) of 64 MiB, or return None where that is not possible."""
    root = Path("/sys/fs/cgroup/memory")
    group = root / f"flowherd-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError:
        return None
    return group


def test_a_kill_by_the_kernel_for_lack_of_memory_is_reported_as_probable(agent: AgentWithRun) -> None:
    """The host's counter proves that the killer struck, not which process it hit."""
    group = limited_memory_group()
    if group is None or oom_count(None) is None:
        pytest.skip("no memory cgroup can be made here, or /proc/vmstat has no oom_kill")
    try:
        eat = f"echo $$ > {group}/cgroup.procs; exec {sys.executable} -c 'x = bytearray(500_000_000)'"
        start(agent, ["sh", "-c", eat], {})
        report = final_report(agent.backend, agent.run_id)
    finally:
        wait_until(lambda: _removed(group), what="the end of the cgroup")
    assert (report.state, report.reason, report.grade) == (RunState.FAILED, reasons.REASON_OOM, "probable")
    assert "probable: by the kernel's out-of-memory killer" in report.message
    assert any("oom_kill in /proc/vmstat rose" in line for line in agent.backend.log(agent.run_id))


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return not group.exists()
    return True


@pytest.mark.parametrize("reason", ["signal", "oom_killer", "lost", "a-word-of-a-later-release"])
def test_every_message_of_a_probable_cause_says_so(reason: str) -> None:
    found = verdict.of_exit_record({"reason": reason, "grade": "probable", "evidence": "x", "signal": 9})
    assert "probable" in found.message


def test_a_runner_lost_while_the_killer_struck_is_probably_its_victim() -> None:
    assert "probable" in verdict.of_lost_runner("a", "a", 0, oom_kills=1).message
    assert "probable" not in verdict.of_lost_runner("a", "a", 0, oom_kills=0).message
    assert "probable" not in verdict.of_lost_runner("a", "b", 0, oom_kills=1).message

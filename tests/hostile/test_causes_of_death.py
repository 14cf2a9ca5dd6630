"""Each cause of death has its own accurate and graded message, in the state and in the run's log."""

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

pytestmark = pytest.mark.usefixtures("no_process_left")


@dataclass
class AgentWithRun:
    """An agent, by its backend and state directory, and the run under test."""

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
    """Let the run end by itself."""


CAUSES: dict[str, tuple[list[str], dict[str, object], Callable[[AgentWithRun], None], RunState, str, str, str]] = {
    # name: (argv, run_config, action, state, reason, grade, part of the message)
    "exit code": (["sh", "-c", "exit 7"], {}, nothing, RunState.FAILED, "exited", "proven", "code 7"),
    "cancel": (
        SLEEP,
        {},
        lambda s: s.backend.cancel(s.run_id) and None,
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
        lambda s: os.kill(s.runner_pid(), signal.SIGTERM),
        RunState.FAILED,
        "terminated",
        "proven",
        f"SIGTERM (15) from pid {os.getpid()}",
    ),
    "foreign KILL of the flow": (
        SLEEP,
        {},
        lambda s: os.kill(s.flow_pid(), signal.SIGKILL),
        RunState.FAILED,
        "signal",
        "proven",
        "SIGKILL, which flowherd did not send",
    ),
    "foreign KILL of the runner": (
        SLEEP,
        {},
        lambda s: os.kill(s.runner_pid(), signal.SIGKILL),
        RunState.FAILED,
        "lost",
        "proven",
        "runner of this flow run was killed",
    ),
}


@contextmanager
def agent_on(state_dir: Path, **overrides: object) -> Iterator[AgentWithRun]:
    backend = MemoryBackend()
    settings = load_settings({"agent.state_dir": str(state_dir), "agent.watch_interval": 0.1, **overrides})
    with going(LocalAgent(backend=backend, hostname_label=False, settings=settings)):
        yield AgentWithRun(backend, state_dir)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentWithRun]:
    with agent_on(tmp_path / "state") as agent:
        yield agent


def start(agent: AgentWithRun, argv: list[str], run_config: dict[str, object]) -> None:
    config = {"grace_s": 0.5, **run_config}
    agent.run_id = agent.backend.add_run({"type": "Command", "argv": argv}, run_config=config)
    wait_until(lambda: agent.backend.state(agent.run_id) is not RunState.SCHEDULED)
    wait_until(lambda: any(report.flow_run_id == agent.run_id for report in agent.backend.history))


def final_report(backend: MemoryBackend, run_id: str) -> StateReport:
    wait_for_end(backend, run_id)
    return [report for report in backend.history if report.flow_run_id == run_id][-1]


def test_every_cause_has_its_own_accurate_and_graded_message(agent: AgentWithRun) -> None:
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


def test_an_end_by_the_agents_stop_is_reported_as_such(tmp_path: Path) -> None:
    with agent_on(tmp_path / "state", **{"agent.on_stop": "cancel"}) as agent:
        start(agent, SLEEP, {})
    report = final_report(agent.backend, agent.run_id)
    assert (report.state, report.reason, report.grade) == (RunState.CANCELLED, "agent_stop", "proven")
    assert "agent was stopped" in report.message


def test_a_reboot_is_recognised_by_the_boot_id_and_no_process_is_signalled(tmp_path: Path) -> None:
    """The directory is a copy of a living run's: the runner that it names is alive, but belongs to another boot."""
    with agent_on(tmp_path / "first") as first:
        start(first, SLEEP, {})
        copy = str(uuid.uuid4())
        target = tmp_path / "second" / "runs" / copy
        shutil.copytree(first.state_dir / "runs" / first.run_id, target)
        for name in (files.SPEC_FILE, files.STARTED_FILE):
            text = (target / name).read_text().replace(first.run_id, copy)
            record = json.loads(text)
            (target / name).write_text(json.dumps({**record, "boot_id": "earlier"} if "boot_id" in record else record))
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
    report = verdict.of_lost_runner("earlier", "now", 0)
    assert (report.reason, report.grade) == (reasons.REASON_REBOOT, "proven")


def limited_memory_group() -> Path | None:
    """A new memory cgroup (v1) of 64 MiB; None if it cannot be created."""
    root = Path("/sys/fs/cgroup/memory")
    group = root / f"flowherd-test-{uuid.uuid4().hex[:8]}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))
    except OSError:
        return None
    return group


def test_a_kill_by_the_out_of_memory_killer_is_reported_as_probable(agent: AgentWithRun) -> None:
    """The host's counter proves that a process was killed, but not which one."""
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


@pytest.mark.parametrize("reason", ["signal", "oom_killer", "lost", "a-reason-of-a-later-release"])
def test_the_message_of_a_probable_cause_says_so(reason: str) -> None:
    found = verdict.of_exit_record({"reason": reason, "grade": "probable", "evidence": "x", "signal": 9})
    assert "probable" in found.message


def test_a_runner_lost_during_an_out_of_memory_kill_was_probably_its_victim() -> None:
    assert "probable" in verdict.of_lost_runner("a", "a", 0, oom_kills=1).message
    assert "probable" not in verdict.of_lost_runner("a", "a", 0, oom_kills=0).message
    assert "probable" not in verdict.of_lost_runner("a", "b", 0, oom_kills=1).message

"""When the host runs out of a resource, runs continue, the agent survives, and one line of its log says so."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flowherd import LocalAgent
from flowherd.agent.suspension import suspended_s
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.host.store.journal_end import append_notice
from flowherd.states import RunState
from flowherd_runner.contract import files
from flowherd_runner.contract.journal import STREAM_STDOUT, pack_record, unpack_records
from flowherd_runner.contract.reasons import RUNNER_BROKEN
from tests.support.agents import going, wait_for_end
from tests.support.commands import READY, Background, CommandLine, background
from tests.support.runner import ForkServer
from tests.support.server import ServerProcess, running_server
from tests.support.small_disk import fill_up, mounted
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

MIB = 1 << 20


@pytest.fixture
def server(no_process_left: None, tmp_path: Path) -> Iterator[ServerProcess]:
    with running_server(tmp_path / "data") as server:
        yield server


@pytest.fixture
def command(server: ServerProcess, tmp_path: Path) -> CommandLine:
    """The command line with that server."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "server.json").write_text(json.dumps({"url": server.url}))  # for CommandLine.client
    env = {"PREFECT__CLOUD__API": server.url, "FLOWHERD__RUNS__MAX_JOURNAL_BYTES": str(4 * MIB)}
    return CommandLine(home, env)


@pytest.fixture
def agent(command: CommandLine) -> Iterator[Background]:
    with background(command, "start", until=READY) as agent:
        yield agent


def started_run(command: CommandLine, name: str, script: str) -> str:
    command("register", name, "--command", "--", "sh", "-c", script)
    return command.run(name)


def state(command: CommandLine, run_id: str) -> str:
    return str(command.runs()[run_id]["state"])


def wait_for_state(command: CommandLine, run_id: str, wanted: str, timeout_s: float = 30) -> None:
    wait_until(lambda: state(command, run_id) == wanted, timeout_s=timeout_s, what=f"{run_id} to be {wanted}")


def test_a_flood_of_output_is_capped_and_neither_fills_memory_nor_delays_other_runs(
    command: CommandLine, agent: Background
) -> None:
    line = "x" * 999
    flood = started_run(command, "flood", f"yes {line} | head -c {300 * MIB}")
    wait_until(lambda: state(command, flood) in ("Running", "Success"))
    family = [psutil.Process(agent.process.pid), *psutil.Process(agent.process.pid).children(recursive=True)]
    begin_s = time.monotonic()
    other = started_run(command, "other", "echo here")
    command.wait_for_ends([other], timeout_s=20)
    other_took_s = time.monotonic() - begin_s
    peak = 0
    while state(command, flood) == "Running":
        peak = max(peak, *(process.memory_info().rss for process in family if process.is_running()))
        assert time.monotonic() < begin_s + 60
    assert state(command, flood) == "Success"
    assert peak < 250 * MIB, f"{peak / MIB:.0f} MiB"
    assert other_took_s < 10, f"the other run took {other_took_s:.1f} s"
    text = command("logs", flood, "--json").stdout
    assert len(text) < 12 * MIB
    messages = [json.loads(each)["message"] for each in text.splitlines()]
    assert any("reached its limit" in message for message in messages)
    assert any("lines came after the log was full" in message for message in messages)


@pytest.fixture
def small_disk(no_process_left: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted(tmp_path / "small", "4m") as place:
        yield place


def lines_about(captured: str, words: str) -> list[str]:
    return [line for line in captured.splitlines() if words in line]


def local_agent(backend: MemoryBackend, state_dir: Path) -> LocalAgent:
    loaded = load_settings({"agent.state_dir": str(state_dir), "cloud.logging_heartbeat": 0.05})
    return LocalAgent(backend=backend, hostname_label=False, settings=loaded)


def test_a_disk_that_fills_up_during_a_run_costs_only_log_lines(small_disk: Path, tmp_path: Path) -> None:
    backend = MemoryBackend()
    go, ready, more = tmp_path / "go", tmp_path / "ready", tmp_path / "more"
    script = (
        f"echo before; touch {ready}; while [ ! -e {more} ]; do sleep 0.02; done; "
        f"for i in $(seq 2000); do echo line $i of a log that has no room; done; "
        f"touch {ready}2; while [ ! -e {go} ]; do sleep 0.02; done; echo after"
    )
    with going(local_agent(backend, small_disk / "state")):
        run_id = backend.add_run({"type": "Command", "argv": ["sh", "-c", script]}, run_config={"working_dir": "/"})
        wait_until(lambda: ready.exists() and backend.state(run_id) is RunState.RUNNING)
        ballast = fill_up(small_disk)
        more.touch()
        wait_until(Path(f"{ready}2").exists)
        ballast.unlink()
        time.sleep(1.1)  # the runner tries a disk that refused only once a second
        go.touch()
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert "before" in backend.log(run_id)
    assert "after" in backend.log(run_id)
    assert any("left out because the disk refused them" in line for line in backend.log(run_id))


def test_with_a_full_disk_nothing_is_claimed_and_one_line_says_so(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend = MemoryBackend()
    with going(local_agent(backend, small_disk / "state")) as agent:
        wait_until(lambda: agent._own_host._opened)
        ballast = fill_up(small_disk)
        run_id = backend.add_run({"type": "Command", "argv": ["true"]}, run_config={"working_dir": "/"})
        wait_until(lambda: agent._own_host._preparing._times >= 3, what="three tries")
        assert backend.state(run_id) is RunState.SCHEDULED
        ballast.unlink()
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    log = capsys.readouterr().err
    assert len(lines_about(log, "Cannot claim flow runs")) == 1
    assert len(lines_about(log, "Can claim flow runs, because none can be written down again")) == 1


def test_an_agent_without_descriptors_survives_and_logs_it_once(command: CommandLine, agent: Background) -> None:
    go = command.home / "go"
    first = started_run(command, "first", f"while [ ! -e {go} ]; do sleep 0.05; done; echo done")
    wait_for_state(command, first, "Running")
    pid = agent.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (1, before[1]))
    second = command.run("first")
    wait_until(lambda: "Too many open files" in agent.text(), what=lambda: agent.text())
    assert agent.process.poll() is None
    time.sleep(1)
    size = len(agent.text())
    assert size < 20_000, "the same failure is logged again and again"
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    go.touch()
    ends = command.wait_for_ends([first, second])
    assert ends[first]["state"] == "Success"
    assert ends[second]["state"] in ("Success", "Failed")
    third = command.run("first")
    assert command.wait_for_ends([third])[third]["state"] == "Success"


@contextlib.contextmanager
def pids_group(pid: int) -> Iterator[Path]:
    """A cgroup of the pids controller that contains the process and its descendants, without a limit yet."""
    for root in (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")):
        group = root / f"flowherd-test-{uuid.uuid4().hex[:8]}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "pids.max").exists():
            break
        group.rmdir()
    else:
        pytest.skip("no cgroup of the pids controller can be made here")
    process = psutil.Process(pid)
    for one in [process, *process.children(recursive=True)]:
        (group / "cgroup.procs").write_text(str(one.pid))
    try:
        yield group
    finally:
        for left in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (group.parent / "cgroup.procs").write_text(left)
        wait_until(lambda: _gone(group), what="the end of the cgroup")


def leave_room(group: Path, number: int) -> None:
    """Let the group have this number of processes and threads more than it has."""
    (group / "pids.max").write_text(str(int((group / "pids.current").read_text()) + number))


def _gone(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


@pytest.mark.parametrize("room", [0, 1], ids=["no-runner", "no-flow-process"])
def test_an_agent_that_cannot_start_processes_survives_and_the_run_says_why(command: CommandLine, room: int) -> None:
    without_spares = CommandLine(command.home, {**command.env, "FLOWHERD__AGENT__SPARE_RUNNERS": "0"})
    with background(without_spares, "start", until=READY) as agent, pids_group(agent.process.pid) as group:
        first = started_run(command, "quick", "echo done")
        assert command.wait_for_ends([first])[first]["state"] == "Success"
        # Its runner may still be ending, and would leave room for another one.
        below = psutil.Process(agent.process.pid).children()
        wait_until(lambda: not any(one.children() for one in below))
        leave_room(group, room)
        second = command.run("quick")
        end = command.wait_for_ends([second])[second]
        assert end["state"] == "Failed"
        assert "Resource temporarily unavailable" in end["message"]
        assert agent.process.poll() is None
        (group / "pids.max").write_text("max")
        third = command.run("quick")
        assert command.wait_for_ends([third])[third]["state"] == "Success"


def test_a_runner_that_cannot_fork_its_flow_process_writes_why_into_the_runs_directory(tmp_path: Path) -> None:
    server = ForkServer(sys.executable, tmp_path / "runs")
    with contextlib.closing(server), pids_group(server.process.pid) as group:
        leave_room(group, 1)
        run = server.start(server.prepare("command", {"argv": ["true"]}))
        assert os.waitstatus_to_exitcode(server.receive("gone")["status"]) == RUNNER_BROKEN
        assert "Resource temporarily unavailable" in (run.directory / files.RUNNER_ERRORS_FILE).read_text()
        assert run.started is None


def test_an_agent_that_was_suspended_logs_it_and_draws_no_false_conclusions(
    command: CommandLine, agent: Background
) -> None:
    go = command.home / "go"
    script = f"while [ ! -e {go} ]; do sleep 0.05; done; echo done"
    first, second = started_run(command, "sleeper", script), command.run("sleeper")
    wait_for_state(command, second, "Running")
    wait_for_state(command, first, "Running")
    # The agent is in its longest wait then, so the suspension falls into that.
    wait_until(lambda: psutil.Process(agent.process.pid).status() == psutil.STATUS_SLEEPING)
    os.kill(agent.process.pid, signal.SIGSTOP)
    try:
        time.sleep(15)
    finally:
        os.kill(agent.process.pid, signal.SIGCONT)
    wait_until(lambda: "suspended for" in agent.text(), what=lambda: agent.text())
    assert state(command, second) == "Running"
    go.touch()
    assert {end["state"] for end in command.wait_for_ends([first, second]).values()} == {"Success"}
    assert len(lines_about(agent.text(), "suspended for")) == 1


def test_a_wait_that_took_much_too_long_means_a_suspension() -> None:
    assert suspended_s(10.0, 10.5) is None
    assert suspended_s(0.25, 2.0) is None
    assert suspended_s(10.0, 3610.0) == 3600.0


def test_a_clock_that_is_set_back_does_not_change_the_order_of_a_journal(tmp_path: Path) -> None:
    """The runner's times follow the monotonic clock; the agent's last line must still come after them."""
    ahead_ns = time.time_ns() + 5 * 3600 * 10**9
    (tmp_path / files.JOURNAL_FILE).write_bytes(pack_record(STREAM_STDOUT, 20, ahead_ns, b"five hours ahead"))
    append_notice(tmp_path / "journal", "the end", 20)
    times = [record.time_ns for record in unpack_records((tmp_path / files.JOURNAL_FILE).read_bytes())]
    assert len(times) == 2
    assert times[0] < times[1]

"""What an agent does with the run directories that it finds at its start, even with damaged or incomplete ones."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.errors import DeployError
from flowherd.host.processes.fork_server import ForkServer
from flowherd.host.processes.interpreters import ask
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd.host.start import Intent
from flowherd.host.store.journal_end import append_notice
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd.states import RunState
from flowherd.values import Runtime, StateReport
from flowherd_runner.contract import files, identity, journal
from flowherd_runner.contract.spec import AgentKeys, RunSpec
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def make_agent(backend: MemoryBackend) -> Callable[[], LocalAgent]:
    return lambda: LocalAgent(backend=backend, hostname_label=False)


@pytest.fixture
def left_behind(clean_environment: Path, backend: MemoryBackend) -> Callable[[str, list[str]], RunDirectory]:
    """Creates what an agent leaves behind if it dies right before it starts the runner: a directory and a claim."""

    def make(run_id: str, argv: list[str]) -> RunDirectory:
        state = StateDirectory(clean_environment / "agents" / "agent")
        token = f"{state.identity}/{run_id}"
        directory = state.run_directory(run_id)
        keys = AgentKeys(claim=token, attempt="1", interpreter="python3")
        os.close(directory.create(RunSpec(run_id, kind="command", target={"argv": argv}, agent=keys)))
        state.close()
        backend.claim(next(run for run in backend.ready_runs((), ()) if run.id == run_id), token)
        return directory

    return make


def test_a_claimed_run_that_never_ran_is_started(
    make_agent: Callable[[], LocalAgent],
    backend: MemoryBackend,
    left_behind: Callable[..., RunDirectory],
    tmp_path: Path,
) -> None:
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    left_behind(run_id, ["touch", str(tmp_path / "ran")])
    with going(make_agent()):
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
    assert (tmp_path / "ran").exists()


def test_a_run_that_was_written_down_with_less_isolation_than_its_agent_now_asks_for_is_not_started(
    make_agent: Callable[[], LocalAgent],
    backend: MemoryBackend,
    left_behind: Callable[..., RunDirectory],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLOWHERD__RUNS__ISOLATION__LEVEL", "private")
    monkeypatch.setenv("FLOWHERD__RUNS__ISOLATION__IF_MISSING", "weaker")  # on any host
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    left_behind(run_id, ["touch", str(tmp_path / "ran")])
    with going(make_agent()):
        assert wait_for_end(backend, run_id) is RunState.FAILED
    assert "more isolation (private)" in backend.message(run_id)
    assert not (tmp_path / "ran").exists()


def test_a_run_that_never_ran_and_whose_end_the_backend_knows_is_not_started(
    make_agent: Callable[[], LocalAgent],
    backend: MemoryBackend,
    left_behind: Callable[..., RunDirectory],
    tmp_path: Path,
) -> None:
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    directory = left_behind(run_id, ["touch", str(tmp_path / "ran")])
    claim = backend.stored_states([run_id])[run_id].claim
    now = datetime.now(timezone.utc)
    backend.report(StateReport(flow_run_id=run_id, state=RunState.FAILED, message="no", at=now, claim=claim))
    with going(make_agent()):
        wait_until(lambda: not directory.path.exists())
    assert not (tmp_path / "ran").exists()


def test_a_run_that_never_ran_and_whose_log_has_its_end_is_not_started(
    make_agent: Callable[[], LocalAgent],
    backend: MemoryBackend,
    left_behind: Callable[..., RunDirectory],
    tmp_path: Path,
) -> None:
    """The earlier agent saw the runner die before the user's code, logged that, and died before it reported it."""
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    directory = left_behind(run_id, ["touch", str(tmp_path / "ran")])
    append_notice(directory.journal, "Failed: The runner ended before it started the flow.", logging.ERROR)
    with going(make_agent()):
        assert wait_for_end(backend, run_id) is RunState.FAILED
    assert not (tmp_path / "ran").exists()
    assert [line for line in backend.log(run_id) if "Failed: " in line or "Success: " in line] == [
        "Failed: The runner ended before it started the flow."
    ]


def start_fork_server(log_file: Path) -> None:
    ForkServer(Runtime(interpreter="true"), dict(os.environ), log_file).close()


def ask_interpreter(_log_file: Path) -> None:
    with contextlib.suppress(DeployError):  # `true` does not answer
        ask("true", os.environ)


@pytest.mark.parametrize("start_program", [start_fork_server, ask_interpreter])
def test_a_program_that_is_being_started_is_not_mistaken_for_the_runner(
    start_program: Callable[[Path], None],
    clean_environment: Path,
    backend: MemoryBackend,
    left_behind: Callable[..., RunDirectory],
) -> None:
    """Between fork and exec it has all descriptors of the agent, the run's lock too."""
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    directory = left_behind(run_id, ["true"])
    intent = Intent(run=Run(directory, directory.spec(), lambda: None), lock_fd=directory.try_lock())

    def start_programs() -> None:
        for _ in range(100):
            start_program(clean_environment / "log")

    starter = threading.Thread(target=start_programs)
    starter.start()
    tries = lost = 0
    try:
        while starter.is_alive():
            lost += not intent.lock_again()
            tries += 1
    finally:
        starter.join()
        intent.release()
    assert lost == 0 and tries > 100


def test_a_half_removed_directory_is_only_removed(
    make_agent: Callable[[], LocalAgent], backend: MemoryBackend, left_behind: Callable[..., RunDirectory]
) -> None:
    """The run's end and log were delivered before the removal began, so nothing is delivered again."""
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    directory = left_behind(run_id, ["true"])
    directory.journal.write_bytes(journal.pack_record(journal.STREAM_STDOUT, 20, 1, b"a line"))
    files.write_json(str(directory.path), files.EXIT_FILE, {"reason": "exited", "exit_code": 1, "grade": "proven"})
    (directory.path / files.SPEC_FILE).unlink()
    with going(make_agent()):
        wait_until(lambda: not directory.path.exists())
    assert backend.lines == [] and backend.history == []


def test_a_removed_directory_counts_as_abandoned(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "3f0f9e3e-6a7c-4c34-9a39-0d0a8c5d2a10")
    files.write_json(str(tmp_path), files.SPEC_FILE, {"old": True})
    assert not directory.is_abandoned()
    directory.remove()
    assert directory.is_abandoned()


def test_a_runner_that_failed_is_reported_as_such_with_its_own_error(
    make_agent: Callable[[], LocalAgent], backend: MemoryBackend, left_behind: Callable[..., RunDirectory]
) -> None:
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    directory = left_behind(run_id, ["true"])
    started = {"pid": 2**22 + 1, "start_ticks": 1, "boot_id": identity.boot_id(), "flow_pid": 2**22 + 2}
    files.write_json(str(directory.path), files.STARTED_FILE, started)
    (directory.path / files.RUNNER_ERRORS_FILE).write_text("Traceback:\n  ...\nOSError: no space left\n")
    with going(make_agent()):
        assert wait_for_end(backend, run_id) is RunState.FAILED
        wait_until(lambda: any("no space left" in line for line in backend.log(run_id)))
    message = backend.message(run_id)
    assert "runner of this flow run failed: OSError: no space left; how far" in message and "killed" not in message


def test_a_stop_that_was_requested_before_the_runner_was_known_reaches_it(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path, "3f0f9e3e-6a7c-4c34-9a39-0d0a8c5d2a10")
    run = Run(directory, RunSpec(directory.flow_run_id), lambda: None)
    run.ask_to_stop("cancelled", "by a test")
    with subprocess.Popen(["sleep", "60"]) as process:
        status = identity.process_status(process.pid)
        assert status is not None
        run.take_runner(RunnerProcess(process.pid, status[1]))
        assert process.wait(10) == -15
    assert run.runner is not None
    run.runner.close()


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (files.SPEC_FILE, "not_started"),
        (files.STARTED_FILE, "lost"),
        (files.EXIT_FILE, "lost"),
        (files.OUTBOX_FILE, "exited"),
    ],
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"contract": 1}', b'{"contract": 99}', b"\xff\x00"])
def test_a_run_with_a_damaged_directory_ends_with_what_is_still_known(
    make_agent: Callable[[], LocalAgent],
    backend: MemoryBackend,
    left_behind: Callable[..., RunDirectory],
    damaged: str,
    reason: str,
    content: bytes,
) -> None:
    run_id = backend.add_run({"type": "Command", "argv": ["true"]})
    directory = left_behind(run_id, ["true"])
    whole = str(directory.path)
    if damaged != files.SPEC_FILE:
        started = {"pid": 2**22 + 1, "start_ticks": 1, "boot_id": identity.boot_id(), "flow_pid": 2**22 + 2}
        files.write_json(whole, files.STARTED_FILE, started)
    if damaged == files.OUTBOX_FILE:
        files.write_json(whole, files.EXIT_FILE, {"reason": "exited", "exit_code": 1, "grade": "proven"})
    (directory.path / damaged).write_bytes(content)
    with going(make_agent()):
        assert wait_for_end(backend, run_id) is RunState.FAILED
        wait_until(lambda: not directory.path.exists())
    assert backend.history[-1].reason == reason


class TestTimeOfTheEnd:
    """A run's end is dated when it ended, although no agent ran then."""

    @pytest.fixture
    def ended(
        self, backend: MemoryBackend, left_behind: Callable[..., RunDirectory]
    ) -> Callable[..., tuple[str, RunDirectory]]:
        """Makes the directory of a run that started an hour ago, with this exit record or none."""

        def make(record: dict[str, object] | None, started_at: str | None) -> tuple[str, RunDirectory]:
            run_id = backend.add_run({"type": "Command", "argv": ["true"]})
            directory = left_behind(run_id, ["true"])
            started = {"pid": 4_000_000, "start_ticks": 5, "boot_id": identity.boot_id(), "flow_pid": 4_000_001}
            files.write_json(str(directory.path), files.STARTED_FILE, {**started, "started_at": started_at})
            line = journal.pack_record(journal.STREAM_STDOUT, 20, time.time_ns() - 1800 * 10**9, b"half way")
            directory.journal.write_bytes(line)
            os.utime(directory.journal, (time.time() - 1700,) * 2)
            if record is not None:
                whole = {"reason": "exited", "grade": "proven", "exit_code": 0, "started_at": started_at, **record}
                files.write_json(str(directory.path), files.EXIT_FILE, whole)
            return run_id, directory

        return make

    @staticmethod
    def ago(seconds: float) -> str:
        return (datetime.now(timezone.utc) - timedelta(seconds=seconds)).isoformat()

    def test_it_is_in_the_runners_record(
        self, make_agent: Callable[[], LocalAgent], backend: MemoryBackend, ended: Callable[..., tuple[str, object]]
    ) -> None:
        began, over = self.ago(3600), self.ago(600)
        run_id, _ = ended({"ended_at": over}, began)
        with going(make_agent()):
            assert wait_for_end(backend, run_id) is RunState.SUCCESS
        assert [
            (report.state, report.at.isoformat()) for report in backend.history if report.flow_run_id == run_id
        ] == [
            (RunState.RUNNING, began),
            (RunState.SUCCESS, over),
        ]

    @pytest.mark.parametrize("seconds_ago", [-3600, 7200], ids=["in the future", "before the start"])
    def test_a_record_that_is_not_credible_counts_as_now(
        self,
        make_agent: Callable[[], LocalAgent],
        backend: MemoryBackend,
        ended: Callable[..., tuple[str, object]],
        seconds_ago: float,
    ) -> None:
        run_id, _ = ended({"ended_at": self.ago(seconds_ago)}, self.ago(3600))
        before = datetime.now(timezone.utc)
        with going(make_agent()):
            wait_for_end(backend, run_id)
        assert before <= backend.history[-1].at <= datetime.now(timezone.utc)

    def test_a_lost_run_is_dated_by_its_last_sign_of_life_and_says_so(
        self, make_agent: Callable[[], LocalAgent], backend: MemoryBackend, ended: Callable[..., tuple[str, object]]
    ) -> None:
        run_id, _ = ended(None, self.ago(3600))
        with going(make_agent()):
            assert wait_for_end(backend, run_id) is RunState.FAILED
        age_s = (datetime.now(timezone.utc) - backend.history[-1].at).total_seconds()
        assert 1690 < age_s < 1760
        assert "Its last sign of life was at" in backend.message(run_id)
        assert "when exactly it ended is not known" in backend.message(run_id)

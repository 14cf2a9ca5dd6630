"""Processes that carry an ended run's variable and were started by somebody else, such as a tmux server."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.host.conclude import conclude
from flowherd.host.processes.runner_process import RunnerProcess
from flowherd.host.run import Run
from flowherd.host.store.local_facts import entries_of, local_facts
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.stray_search import Searched, StraySearch
from flowherd.states import RunState
from flowherd_runner.contract.files import read_json, write_json
from flowherd_runner.contract.identity import process_status
from flowherd_runner.contract.spec import RunSpec
from flowherd_runner.contract.variables import RUN_ID_VARIABLE
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

#: A run that goes on until its file `go` is there.
WAITING = "until [ -e {}/go ]; do sleep 0.02; done"


@pytest.fixture
def stray() -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Starts a process with a run's variable in its environment; not below that run."""
    started: list[subprocess.Popen[bytes]] = []

    def start(run_id: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "300"], env={**os.environ, RUN_ID_VARIABLE: run_id}))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait()


def keeping_agent(backend: MemoryBackend) -> LocalAgent:
    """An agent that keeps its run directories."""
    return LocalAgent(backend=backend, hostname_label=False, settings=load_settings({"runs.keep": 3600.0}))


def searched(directory: Path) -> dict[str, Any] | None:
    return read_json(str(directory), "search.json")


def test_what_somebody_else_started_with_the_runs_variable_is_ended_and_named_in_the_runs_log(
    tmp_path: Path, clean_environment: Path, stray: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """Also by the next agent, if this one dies after the end was delivered and before the search."""
    backend = MemoryBackend()
    with going(keeping_agent(backend)):
        argv = ["sh", "-c", WAITING.format(tmp_path)]
        run_id = backend.add_run({"type": "Command", "argv": argv}, name="one")
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        first = stray(run_id)
        (tmp_path / "go").touch()
        assert wait_for_end(backend, run_id) is RunState.SUCCESS
        first.wait(timeout=20)
        named = f"that were not started by it; ended: sleep (pid {first.pid}, user "
        wait_until(lambda: any(named in line.message for line in backend.lines), what=lambda: str(backend.lines))
    directory = clean_environment / "agents" / "agent" / "runs" / run_id
    record = searched(directory)
    assert record is not None
    assert (directory / "exit.json").stat().st_blocks <= 32, "16 KiB of the space that was reserved are left"
    assert record["found"] == [{"pid": first.pid, "name": "sleep"}]
    entries = entries_of(local_facts(RunDirectory(directory, run_id)))
    (entry,) = [entry.detail for entry in entries if entry.what == "host searched"]
    assert entry == f"looked at {record['looked_at']} processes after the end, found: sleep ({first.pid})"
    assert any("No process was left below it; strays are searched for" in line.message for line in backend.lines)

    (directory / "search.json").unlink()
    second = stray(run_id)
    with going(keeping_agent(backend)):
        second.wait(timeout=20)
        wait_until(lambda: searched(directory))


def test_the_processes_of_a_run_that_was_started_again_are_left_alone(
    tmp_path: Path, stray: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    run_id = "0b7c5c0e-1111-4222-8333-444455556666"
    runs = [Run(RunDirectory(tmp_path / one, one), RunSpec(flow_run_id=one), lambda: None) for one in (run_id, "b")]
    process, found, removed = stray(run_id), [], []

    def note(run: Run, result: Searched) -> None:
        found.append((run.id, result.found))

    search = StraySearch(lambda flow_run_id: flow_run_id == run_id, note, lambda run: removed.append(run.id))
    for one in runs:
        one.owes_search = True
        search.ended(one)
        search.delivered(one)
    assert search.close(20)
    assert (process.poll(), found, removed) == (None, [("b", ())], ["b"])


def test_a_run_ends_with_its_record_and_the_end_of_its_runner_is_seen_to_afterwards(
    tmp_path: Path, stray: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    """Without a record it has not ended as long as its runner lives, even if the lock is free."""
    directory = RunDirectory(tmp_path / "run", "run")
    os.close(directory.create(RunSpec(flow_run_id="run")))
    run, runner = Run(directory, RunSpec(flow_run_id="run"), lambda: None), stray("of another run")
    run.resume()
    status = process_status(runner.pid)
    assert status is not None
    run.take_runner(RunnerProcess(runner.pid, status[1]))
    assert not conclude(run, lambda _living: None)
    record = {"reason": "exited", "exit_code": 0, "leftovers": [], "searched": False}
    write_json(str(directory.path), "exit.json", record)
    assert conclude(run, lambda _living: None)
    assert (run.state, runner.poll()) == (RunState.SUCCESS, None)
    search = StraySearch(lambda _id: False, lambda _run, _result: None, lambda _run: None)
    search.ended(run)
    assert search.close(20)
    assert runner.wait(20) == -9

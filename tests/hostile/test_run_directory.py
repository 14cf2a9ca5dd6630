"""Damaged files of runs: an agent starts with them, touches nothing outside, and only the damaged run fails."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.errors import RunDirectoryDamaged
from flowherd.host import verdict
from flowherd.host.store.journal_end import append_notice, journal_bytes
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import FINISHED, RunState
from flowherd_runner.contract import files
from tests.hostile.damaged_runs import (
    IDENTITY,
    TEMPLATE,
    Damage,
    bystander,
    damage_files,
    damages,
    fill_run_directory,
    live_damages,
    untouched_file,
)
from tests.support.agents import going, wait_for_end
from tests.support.mutations import fuzz, mutated
from tests.support.waiting import wait_until

COMMAND = {"type": "Command", "argv": ["sh", "-c", "echo done"]}


@given(damage=damages())
@fuzz(150)
def test_damaged_files_of_a_run_are_read_or_refused_without_other_errors(damage: list[Damage]) -> None:
    with tempfile.TemporaryDirectory() as place, untouched_file() as outside:
        run_id = str(uuid.uuid4())
        path = Path(place) / run_id
        fill_run_directory(path, run_id, 4_000_000)
        damage_files(path, damage, outside)
        directory = RunDirectory(path, run_id)
        for read in (directory.spec, directory.started, directory.exit_record):
            try:
                read()
            except RunDirectoryDamaged:
                pass
        try:
            assert all(report.flow_run_id == run_id for report in directory.outbox().reports)
        except RunDirectoryDamaged:
            pass
        assert 0 <= directory.forwarded() <= journal_bytes(directory.journal)
        directory.quarantine_foreign_files()
        lock_fd = directory.try_lock()
        assert lock_fd is not None
        append_notice(directory.journal, "the end", 20)
        os.close(lock_fd)
        directory.set_forwarded(7)
        directory.remove()
        assert not path.exists()


@given(record=mutated(json.loads(TEMPLATE[files.EXIT_FILE])))
@fuzz(200)
def test_a_damaged_exit_record_gives_a_verdict_or_is_refused(record: Any) -> None:
    if not isinstance(record, dict):
        return
    try:
        found = verdict.of_exit_record(record)
    except ValueError:
        return
    assert found.state is not RunState.SUCCESS or record["exit_code"] == 0
    found.message.encode()


@contextmanager
def state_directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "runs").mkdir()
        (Path(place) / "agent.json").write_text(json.dumps({"contract": 1, "identity": IDENTITY}))
        yield Path(place)


def agent_on(state_dir: Path, backend: MemoryBackend) -> LocalAgent:
    loaded = load_settings({"agent.state_dir": str(state_dir), "cloud.logging_heartbeat": 0.05})
    return LocalAgent(backend=backend, hostname_label=False, settings=loaded)


def claimed_run(backend: MemoryBackend) -> str:
    """A run that the agent has claimed at the backend."""
    run_id = backend.add_run(COMMAND)
    (flow_run,) = [each for each in backend.ready_runs([], set()) if each.id == run_id]
    backend.claim(flow_run, f"{IDENTITY}/{run_id}")
    return run_id


PIDS = st.sampled_from(["bystander", "own", "init", 0, -1, 2**22 - 1, 2**40])


@given(runs=st.lists(st.tuples(damages(), PIDS), min_size=3, max_size=8))
@example(runs=[([("exit.json", "bytes", b"")], "bystander")])  # the file `started` names it as the runner
@example(
    runs=[([("outbox", "bytes", b'{"contract": 1, "reports": ["x"], "final": false, "state": "Running"}')], "own")]
)
@fuzz(6)
@pytest.mark.usefixtures("no_process_left")
def test_an_agent_starts_with_damaged_directories_and_ends_every_damaged_run(
    runs: list[tuple[list[Damage], Any]],
) -> None:
    with state_directory() as state_dir, untouched_file() as outside, bystander() as other:
        backend = MemoryBackend()
        pids = {"bystander": other, "own": os.getpid(), "init": 1}
        ids = []
        for damage, pid in runs:
            run_id = claimed_run(backend)
            fill_run_directory(state_dir / "runs" / run_id, run_id, pids.get(pid, pid))
            damage_files(state_dir / "runs" / run_id, damage, outside)
            ids.append(run_id)
        foreign_names(state_dir / "runs", outside.parent)
        with going(agent_on(state_dir, backend)):
            for run_id in ids:
                wait_for_end(backend, run_id)
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert (state_dir / "runs" / "a file").read_text() == "mine"
        assert (state_dir / "runs" / "11111111-1111-4111-8111-111111111111").is_symlink()


def foreign_names(runs: Path, outside: Path) -> None:
    """Create entries that are not run directories, because of their names or their kinds."""
    (runs / "a file").write_text("mine")
    (runs / "a directory").mkdir()
    (runs / str(uuid.uuid4())).write_text("a file with a run's name")
    (runs / "11111111-1111-4111-8111-111111111111").symlink_to(outside)
    (runs / str(uuid.uuid4())).symlink_to("/nowhere")


def test_a_run_whose_directory_is_a_link_is_not_started(tmp_path: Path) -> None:
    with state_directory() as state_dir, untouched_file() as outside:
        backend = MemoryBackend()
        run_id = backend.add_run(COMMAND)
        (state_dir / "runs" / run_id).symlink_to(outside.parent)
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert backend.state(run_id) is RunState.SCHEDULED


@given(damage=live_damages(), cancel=st.booleans(), restart=st.booleans())
@fuzz(12)
@pytest.mark.usefixtures("no_process_left")
def test_a_run_that_is_damaged_while_it_runs_still_ends_and_affects_no_other(
    damage: list[Damage], cancel: bool, restart: bool
) -> None:
    with state_directory() as state_dir, untouched_file() as outside, bystander():
        backend = MemoryBackend()
        go, ready = state_dir / "go", state_dir / "ready"
        script = f"touch {ready}; while [ ! -e {go} ]; do sleep 0.02; done"
        flow = {"type": "Command", "argv": ["sh", "-c", script]}
        with going(agent_on(state_dir, backend)):
            victim = backend.add_run(flow, run_config={"grace_s": 0.3})
            wait_until(lambda: ready.exists() and backend.state(victim) is RunState.RUNNING)
            other = backend.add_run(flow)
            wait_until(lambda: backend.state(other) is RunState.RUNNING)
            damage_files(state_dir / "runs" / victim, damage, outside)
            if not restart:
                end(backend, victim, other, go, cancel)
        if restart:
            with going(agent_on(state_dir, backend)):
                end(backend, victim, other, go, cancel)


def end(backend: MemoryBackend, victim: str, other: str, go: Path, cancel: bool) -> None:
    assert backend.state(victim) not in FINISHED, "the run was reported as ended while it was alive"
    if cancel:
        backend.cancel(victim)
        wait_for_end(backend, victim)
        assert backend.state(other) is RunState.RUNNING
    go.touch()
    wait_for_end(backend, victim)
    assert wait_for_end(backend, other) is RunState.SUCCESS


def test_a_run_from_before_a_reboot_does_not_touch_the_process_that_has_its_pid_now() -> None:
    with state_directory() as state_dir, bystander() as other:
        backend = MemoryBackend()
        run_id = claimed_run(backend)
        directory = state_dir / "runs" / run_id
        fill_run_directory(directory, run_id, other)
        (directory / files.EXIT_FILE).unlink()
        started = json.loads((directory / files.STARTED_FILE).read_text())
        (directory / files.STARTED_FILE).write_text(json.dumps({**started, "boot_id": "another"}))
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, run_id) is RunState.FAILED
        assert "restarted" in backend.message(run_id)


def test_a_living_runner_is_found_by_its_lock_when_the_file_that_names_it_is_damaged() -> None:
    """Otherwise a cancellation could not reach it."""
    with state_directory() as state_dir:
        backend = MemoryBackend()
        ready = state_dir / "ready"
        flow = {"type": "Command", "argv": ["sh", "-c", f"touch {ready}; sleep 100"]}
        with going(agent_on(state_dir, backend)):
            run_id = backend.add_run(flow, run_config={"grace_s": 0.3})
            wait_until(lambda: ready.exists() and backend.state(run_id) is RunState.RUNNING)
        (state_dir / "runs" / run_id / files.STARTED_FILE).write_text("{}")
        with going(agent_on(state_dir, backend)) as agent:
            wait_until(lambda: any(run.runner is not None for run in agent._own_host._registry))
            backend.cancel(run_id)
            assert wait_for_end(backend, run_id) is RunState.CANCELLED


def test_a_damaged_identity_is_moved_aside_and_the_agent_starts(tmp_path: Path) -> None:
    with state_directory() as state_dir:
        (state_dir / "agent.json").write_bytes(b"\xff{")
        backend = MemoryBackend()
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert list(state_dir.glob("agent.json.set-aside-*"))


def test_pids_that_no_run_can_have_are_refused(tmp_path: Path) -> None:
    for pid in (0, -1, 1, os.getpid(), True, "5", 2**22, 5.0, None):
        path = tmp_path / str(uuid.uuid4())
        path.mkdir()
        started = {"contract": 1, "pid": pid, "start_ticks": 1, "boot_id": "x"}
        (path / files.STARTED_FILE).write_text(json.dumps(started))
        with pytest.raises(RunDirectoryDamaged):
            RunDirectory(path, path.name).started()

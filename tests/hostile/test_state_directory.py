"""With anything in its state directory an agent starts, harms no process outside, and a bad run fails alone."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.states import FINISHED, RunState
from flowherd_runner.contract import files, identity
from tests.support.agents import going, wait_for_end
from tests.support.mutations import IN_PLACE_OF_A_FILE, damaged_bytes, fuzz
from tests.support.run_files import IDENTITY, TEMPLATE, apply, damages, fill, outside_files
from tests.support.waiting import wait_until

COMMAND = {"type": "Command", "argv": ["sh", "-c", "echo done"]}


@contextmanager
def bystander() -> Iterator[int]:
    """Start a process that belongs to no run; check at the end that it is alive and was not stopped."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        yield process.pid
        status = identity.process_status(process.pid)
        assert process.poll() is None and status is not None and status[2] in "SRD", "the bystander was signalled"
    finally:
        process.kill()
        process.wait()


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
    """Create a run that the backend has as claimed by the agent."""
    run_id = backend.add_run(COMMAND)
    (flow_run,) = [each for each in backend.ready_runs([], set()) if each.id == run_id]
    backend.claim(flow_run, f"{IDENTITY}/{run_id}")
    return run_id


PIDS = st.sampled_from(["bystander", "own", "init", 0, -1, 2**22 - 1, 2**40])


@given(runs=st.lists(st.tuples(damages(), PIDS), min_size=3, max_size=8))
@fuzz(6)
def test_an_agent_starts_with_any_directory_and_every_damaged_run_comes_to_an_end(
    runs: list[tuple[list[tuple[str, str, Any]], Any]],
) -> None:
    with state_directory() as state_dir, outside_files() as outside, bystander() as other:
        backend = MemoryBackend()
        pids = {"bystander": other, "own": os.getpid(), "init": 1}
        ids = []
        for damage, pid in runs:
            run_id = claimed_run(backend)
            fill(state_dir / "runs" / run_id, run_id, pids.get(pid, pid))
            apply(state_dir / "runs" / run_id, damage, outside)
            ids.append(run_id)
        foreign_names(state_dir / "runs", outside.parent)
        with going(agent_on(state_dir, backend)):
            for run_id in ids:
                wait_for_end(backend, run_id)
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert (state_dir / "runs" / "a file").read_text() == "mine"
        assert (state_dir / "runs" / "11111111-1111-4111-8111-111111111111").is_symlink()


def foreign_names(runs: Path, outside: Path) -> None:
    """Make entries that are no run directories, by their names or their kinds."""
    (runs / "a file").write_text("mine")
    (runs / "a directory").mkdir()
    (runs / str(uuid.uuid4())).write_text("a file with a run's name")
    (runs / "11111111-1111-4111-8111-111111111111").symlink_to(outside)
    (runs / str(uuid.uuid4())).symlink_to("/nowhere")


def test_a_run_whose_directory_is_a_link_is_not_started_through_it(tmp_path: Path) -> None:
    with state_directory() as state_dir, outside_files() as outside:
        backend = MemoryBackend()
        run_id = backend.add_run(COMMAND)
        (state_dir / "runs" / run_id).symlink_to(outside.parent)
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert backend.state(run_id) is RunState.SCHEDULED


LIVE_NAMES = [
    files.STARTED_FILE,
    files.STOP_FILE,
    files.OUTBOX_FILE,
    files.FORWARDED_FILE,
    files.SPEC_FILE,
    files.EXIT_FILE,
    files.JOURNAL_FILE,
    files.LOCK_FILE,
]


@st.composite
def live_damages(draw: st.DrawFn) -> list[tuple[str, str, Any]]:
    name = draw(st.sampled_from(LIVE_NAMES))
    if draw(st.booleans()):
        return [(name, "thing", draw(IN_PLACE_OF_A_FILE))]
    return [(name, "bytes", draw(damaged_bytes(TEMPLATE[name])))]


@given(damage=live_damages(), cancel=st.booleans(), restart=st.booleans())
@fuzz(12)
def test_damage_while_a_run_goes_touches_no_other_run_and_it_ends_all_the_same(
    damage: list[tuple[str, str, Any]], cancel: bool, restart: bool
) -> None:
    with state_directory() as state_dir, outside_files() as outside, bystander():
        backend = MemoryBackend()
        go, ready = state_dir / "go", state_dir / "ready"
        script = f"touch {ready}; while [ ! -e {go} ]; do sleep 0.02; done"
        flow = {"type": "Command", "argv": ["sh", "-c", script]}
        with going(agent_on(state_dir, backend)):
            victim = backend.add_run(flow, run_config={"grace_s": 0.3})
            wait_until(lambda: ready.exists() and backend.state(victim) is RunState.RUNNING)
            other = backend.add_run(flow)
            wait_until(lambda: backend.state(other) is RunState.RUNNING)
            apply(state_dir / "runs" / victim, damage, outside)
            if not restart:
                end(backend, victim, other, go, cancel)
        if restart:
            with going(agent_on(state_dir, backend)):
                end(backend, victim, other, go, cancel)


def end(backend: MemoryBackend, victim: str, other: str, go: Path, cancel: bool) -> None:
    assert backend.state(victim) not in FINISHED, "a false death"
    if cancel:
        backend.cancel(victim)
        wait_for_end(backend, victim)
        assert backend.state(other) is RunState.RUNNING
    go.touch()
    wait_for_end(backend, victim)
    assert wait_for_end(backend, other) is RunState.SUCCESS


def test_a_run_of_an_earlier_boot_never_leads_to_the_process_that_has_its_pid_now() -> None:
    with state_directory() as state_dir, bystander() as other:
        backend = MemoryBackend()
        run_id = claimed_run(backend)
        directory = state_dir / "runs" / run_id
        fill(directory, run_id, other)
        (directory / files.EXIT_FILE).unlink()
        started = json.loads((directory / files.STARTED_FILE).read_text())
        (directory / files.STARTED_FILE).write_text(json.dumps({**started, "boot_id": "another"}))
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, run_id) is RunState.FAILED
        assert "restarted" in backend.message(run_id)


def test_a_living_runner_is_found_by_its_lock_when_the_file_that_names_it_is_damaged() -> None:
    """Otherwise a cancellation would not reach it."""
    with state_directory() as state_dir:
        backend = MemoryBackend()
        ready = state_dir / "ready"
        flow = {"type": "Command", "argv": ["sh", "-c", f"touch {ready}; sleep 100"]}
        with going(agent_on(state_dir, backend)):
            run_id = backend.add_run(flow, run_config={"grace_s": 0.3})
            wait_until(lambda: ready.exists() and backend.state(run_id) is RunState.RUNNING)
        (state_dir / "runs" / run_id / files.STARTED_FILE).write_text("{}")
        with going(agent_on(state_dir, backend)) as agent:
            wait_until(lambda: any(run.runner is not None for run in agent._registry))
            backend.cancel(run_id)
            assert wait_for_end(backend, run_id) is RunState.CANCELLED


def test_a_damaged_identity_is_set_aside_and_the_agent_starts(tmp_path: Path) -> None:
    with state_directory() as state_dir:
        (state_dir / "agent.json").write_bytes(b"\xff{")
        backend = MemoryBackend()
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert list(state_dir.glob("agent.json.set-aside-*"))

"""Whatever lies in a state directory: an agent starts with it, harms nobody outside, and a bad run fails alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.errors import RunDirectoryDamaged
from flowherd.host import verdict
from flowherd.host.store.journal_end import append_notice, journal_bytes
from flowherd.host.store.run_directory import RunDirectory
from flowherd.states import FINISHED, RunState
from flowherd_runner.contract import files, identity
from flowherd_runner.contract.journal import STREAM_LOG, STREAM_STDOUT, pack_record
from tests.support.agents import going, wait_for_end
from tests.support.mutations import IN_PLACE_OF_A_FILE, damaged_bytes, fuzz, mutated, put_in_place
from tests.support.waiting import wait_until

IDENTITY = "0123456789abcdef"
COMMAND = {"type": "Command", "argv": ["sh", "-c", "echo done"]}


def spec_of(run_id: str) -> dict[str, Any]:
    return {
        "contract": 1,
        "flow_run_id": run_id,
        "flow_run_name": "a-run",
        "flow_name": "a flow",
        "kind": "command",
        "kind_file": None,
        "target": {"argv": ["sh", "-c", "echo again"]},
        "parameters": {},
        "env": {},
        "masked_env": [],
        "working_dir": None,
        "import_paths": [],
        "user": None,
        "limits": {"run_time_s": 20, "memory_bytes": 10**9, "processes": 50},
        "grace_s": 0.5,
        "max_line_bytes": 1000,
        "max_journal_bytes": 100_000,
        "agent": {
            "claim": f"{IDENTITY}/{run_id}",
            "attempt": "abc",
            "claimed_via_task_run": "",
            "interpreter": shutil.which("python3"),
            "preload": [],
            "has_engine": False,
            "reports_start": True,
            "send_logs": True,
            "show_output": True,
        },
    }


def contents(run_id: str, pid: int) -> dict[str, bytes]:
    """A whole run directory of a run that ended while no agent looked; `pid` is what it says of its runner."""
    status = identity.process_status(pid)
    started = {
        "contract": 1,
        "pid": pid,
        "start_ticks": status[1] if status else 5,
        "boot_id": identity.boot_id(),
        "flow_pid": pid,
    }
    ended = {
        "contract": 1,
        "reason": "exited",
        "grade": "proven",
        "evidence": "wait status",
        "exit_code": 3,
        "signal": None,
        "exception": None,
        "detail": None,
        "cpu_time_s": 0.5,
        "peak_memory_bytes": 1000,
        "leftovers": [{"pid": 5, "name": "sleep"}],
        "lines": 2,
    }
    report = {
        "flow_run_id": run_id,
        "state": "Running",
        "message": "Running",
        "at": "2024-01-01T00:00:00+00:00",
        "claim": f"{IDENTITY}/{run_id}",
        "pid": 77,
        "version": None,
        "reason": None,
        "grade": None,
    }
    journal = pack_record(STREAM_STDOUT, 20, 10**18, b"one") + pack_record(
        STREAM_LOG, 20, 10**18 + 1000, b'{"logger": "x", "message": "two"}'
    )
    documents = {
        files.SPEC_FILE: spec_of(run_id),
        files.STARTED_FILE: started,
        files.EXIT_FILE: ended,
        files.STOP_FILE: {"contract": 1, "reason": "cancelled", "detail": "x", "grace_s": 1.0},
        files.OUTBOX_FILE: {"contract": 1, "reports": [report], "final": False, "state": "Running"},
    }
    raw = {files.JOURNAL_FILE: journal, files.FORWARDED_FILE: b"0", files.LOCK_FILE: b"", "runner.err": b"words"}
    return {**{name: json.dumps(value).encode() for name, value in documents.items()}, **raw}


TEMPLATE = contents(str(uuid.uuid4()), 4_000_000)
JSON_FILES = [files.SPEC_FILE, files.STARTED_FILE, files.EXIT_FILE, files.OUTBOX_FILE, files.STOP_FILE]


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, str, Any]]:
    """Up to four damages: (file name, kind, what is put there)."""
    found: list[tuple[str, str, Any]] = []
    for _ in range(draw(st.integers(1, 4))):
        name = draw(st.sampled_from(sorted(TEMPLATE)))
        kind = draw(st.sampled_from(["bytes", "json", "thing", "missing"]))
        if kind == "json" and name in JSON_FILES:
            value = draw(mutated(json.loads(TEMPLATE[name])))
            found.append((name, "bytes", json.dumps(value).encode("utf-8", "surrogatepass")))
        elif kind == "thing":
            found.append((name, "thing", draw(IN_PLACE_OF_A_FILE)))
        elif kind == "missing":
            found.append((name, "thing", "missing"))
        else:
            found.append((name, "bytes", draw(damaged_bytes(TEMPLATE[name]))))
    # A directory without a spec is one that was being removed: its run's end is known, or it was never claimed.
    return [(name, kind, value) for name, kind, value in found if (name, value) != (files.SPEC_FILE, "missing")]


def apply(directory: Path, damage: list[tuple[str, str, Any]], outside: Path) -> None:
    for name, kind, value in damage:
        if kind == "thing":
            put_in_place(directory / name, value, outside)
        else:
            put_in_place(directory / name, "missing", outside)
            (directory / name).write_bytes(value)


def fill(directory: Path, run_id: str, pid: int) -> None:
    directory.mkdir(mode=0o700)
    for name, data in contents(run_id, pid).items():
        (directory / name).write_bytes(data)


@contextmanager
def outside_files() -> Iterator[Path]:
    """A file in a directory of its own; nothing there is read away, written or removed in the block."""
    with tempfile.TemporaryDirectory() as place:
        outside = Path(place) / "outside.json"
        outside.write_text('{"contract": 1, "reports": [], "final": true, "state": "Success"}')
        os.utime(outside, ns=(1, 1))
        yield outside
        assert [entry.name for entry in Path(place).iterdir()] == ["outside.json"]
        assert outside.stat().st_mtime_ns == 1
        assert outside.read_text().endswith('"Success"}')


@contextmanager
def bystander() -> Iterator[int]:
    """A process that is no run's; it is alive and goes on at the end."""
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    try:
        yield process.pid
        status = identity.process_status(process.pid)
        assert process.poll() is None and status is not None and status[2] in "SRD", "the bystander was signalled"
    finally:
        process.kill()
        process.wait()


@given(damage=damages())
@fuzz(150)
def test_the_files_of_a_run_are_read_or_refused_and_never_anything_else(damage: list[tuple[str, str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as place, outside_files() as outside:
        run_id = str(uuid.uuid4())
        path = Path(place) / run_id
        fill(path, run_id, 4_000_000)
        apply(path, damage, outside)
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
def test_an_exit_record_is_judged_or_refused(record: Any) -> None:
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


def claimed_run(backend: MemoryBackend, running: bool) -> str:
    """A run that the backend holds as claimed by the agent, or as running."""
    run_id = backend.add_run(COMMAND)
    (flow_run,) = [each for each in backend.ready_runs([], set()) if each.id == run_id]
    backend.claim(flow_run, f"{IDENTITY}/{run_id}")
    return run_id


PIDS = st.sampled_from(["bystander", "own", "init", 0, -1, 2**22 - 1, 2**40])


@given(runs=st.lists(st.tuples(damages(), PIDS), min_size=3, max_size=8))
@fuzz(6)
@pytest.mark.usefixtures("no_process_left")
def test_an_agent_starts_with_any_directory_and_every_damaged_run_comes_to_an_end(
    runs: list[tuple[list[tuple[str, str, Any]], Any]],
) -> None:
    with state_directory() as state_dir, outside_files() as outside, bystander() as other:
        backend = MemoryBackend()
        pids = {"bystander": other, "own": os.getpid(), "init": 1}
        ids = []
        for damage, pid in runs:
            run_id = claimed_run(backend, running=True)
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
    """What is no run directory, by its name or by its kind."""
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
@pytest.mark.usefixtures("no_process_left")
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
        run_id = claimed_run(backend, running=True)
        directory = state_dir / "runs" / run_id
        fill(directory, run_id, other)
        (directory / files.EXIT_FILE).unlink()
        started = json.loads((directory / files.STARTED_FILE).read_text())
        (directory / files.STARTED_FILE).write_text(json.dumps({**started, "boot_id": "another"}))
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, run_id) is RunState.FAILED
        assert "restarted" in backend.message(run_id)


def test_a_living_runner_is_found_by_its_lock_when_the_file_that_names_it_is_damaged() -> None:
    """Else a cancel would reach nobody."""
    with state_directory() as state_dir:
        backend = MemoryBackend()
        ready = state_dir / "ready"
        flow = {"type": "Command", "argv": ["sh", "-c", f"touch {ready}; sleep 100"]}
        with going(agent_on(state_dir, backend)):
            run_id = backend.add_run(flow, run_config={"grace_s": 0.3})
            wait_until(lambda: ready.exists() and backend.state(run_id) is RunState.RUNNING)
        (state_dir / "runs" / run_id / files.STARTED_FILE).write_text("{}")
        with going(agent_on(state_dir, backend)) as agent:
            wait_until(lambda: any(run.runner is not None for run in agent._host._registry))
            backend.cancel(run_id)
            assert wait_for_end(backend, run_id) is RunState.CANCELLED


def test_a_damaged_identity_is_set_aside_and_the_agent_starts(tmp_path: Path) -> None:
    with state_directory() as state_dir:
        (state_dir / "agent.json").write_bytes(b"\xff{")
        backend = MemoryBackend()
        with going(agent_on(state_dir, backend)):
            assert wait_for_end(backend, backend.add_run(COMMAND)) is RunState.SUCCESS
        assert list(state_dir.glob("agent.json.set-aside-*"))


def test_signals_to_pids_that_mean_everybody_are_never_read_from_a_file(tmp_path: Path) -> None:
    for pid in (0, -1, 1, os.getpid(), True, "5", 2**22, 5.0, None):
        path = tmp_path / str(uuid.uuid4())
        path.mkdir()
        started = {"contract": 1, "pid": pid, "start_ticks": 1, "boot_id": "x"}
        (path / files.STARTED_FILE).write_text(json.dumps(started))
        with pytest.raises(RunDirectoryDamaged):
            RunDirectory(path, path.name).started()

"""Run directories that cannot be removed are reported once, shown by `doctor`, and tried again."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from flowherd.cli.doctor.check_agent import check_remains
from flowherd.config import load_settings
from flowherd.host.ended_runs import EndedRuns
from flowherd.host.retention import Retention
from flowherd.host.run import Run
from flowherd.host.store.run_directory import RunDirectory
from flowherd.host.store.state_directory import StateDirectory
from flowherd.host.store.survivors import SurvivorList
from flowherd.host.verdict import Verdict
from flowherd.states import RunState
from flowherd_runner.contract.spec import RunSpec
from tests.support.unprivileged import needs_root

pytestmark = needs_root


@pytest.fixture
def state(clean_environment: Path) -> Iterator[StateDirectory]:
    opened = StateDirectory(clean_environment / "agents" / "agent")
    yield opened
    opened.close()


@pytest.fixture
def directory(state: StateDirectory) -> Iterator[RunDirectory]:
    """The directory of a run that has left something mounted."""
    run_id = str(uuid.uuid4())
    found = state.run_directory(run_id)
    os.close(found.create(RunSpec(flow_run_id=run_id)))
    mounted = found.path / "work" / "mounted"
    mounted.mkdir(parents=True)
    (found.path / "work" / "data").write_bytes(b"x" * 2_000_000)
    if subprocess.run(["mount", "-t", "tmpfs", "none", mounted], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    (mounted / "precious").touch()
    yield found
    subprocess.run(["umount", mounted], capture_output=True, check=False)


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """Warnings and what ends them."""
    found: list[str] = []
    sink = logger.add(lambda message: found.append(str(message)), level="INFO", format="{message}")
    yield found
    logger.remove(sink)


def test_it_is_reported_once_and_removed_as_soon_as_that_is_possible(
    state: StateDirectory, directory: RunDirectory, messages: list[str]
) -> None:
    retention = Retention(state, 0.0, lambda run_id: False)
    mounted = directory.path / "work" / "mounted"
    retention.delivered(directory)
    retention.sweep()
    (warning,) = messages
    assert "MiB are left; trying again every 10 min" in warning
    assert f"{mounted}: a file system is mounted there" in warning
    assert (mounted / "precious").exists()
    assert not (directory.path / "work" / "data").exists()
    found = check_remains(load_settings())
    assert found.grade == "warn"
    assert f"{directory.path} (a file system is mounted on {mounted})" in found.detail
    subprocess.run(["umount", mounted], check=True)
    retention.sweep()
    assert not directory.path.exists()
    assert "which could not be removed before" in messages[1]
    assert check_remains(load_settings()).grade == "ok"


def test_the_next_agent_reports_it_again(state: StateDirectory, directory: RunDirectory, messages: list[str]) -> None:
    Retention(state, 0.0, lambda run_id: False).delivered(directory)
    Retention(state, 0.0, lambda run_id: False).sweep()
    assert len(messages) == 2


def test_a_new_start_of_the_run_does_not_find_what_could_not_be_removed(directory: RunDirectory) -> None:
    directory.remove()
    os.close(directory.create(RunSpec(flow_run_id=directory.flow_run_id)))
    assert not (directory.path / "work").exists()
    (aside,) = directory.path.glob("work.set-aside-*")
    subprocess.run(["umount", aside / "mounted"], check=True)


def test_an_end_whose_directory_stays_is_written_down_so_that_no_agent_reports_it_again(
    state: StateDirectory, tmp_path: Path
) -> None:
    run_id = str(uuid.uuid4())
    passage = tmp_path / "passage"
    passage.mkdir(mode=0o700)
    mounted = passage / f"{run_id}-1" / "mounted"
    mounted.mkdir(parents=True)
    spec = RunSpec(flow_run_id=run_id, own_dir=str(mounted.parent))
    directory = state.run_directory(run_id)
    os.close(directory.create(spec))
    if subprocess.run(["mount", "-t", "tmpfs", "none", mounted], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not permitted here")
    try:
        run = Run(directory, spec, lambda: None)
        run.begin_start()
        run.hand_over()
        run.finish(Verdict(state=RunState.FAILED, message="", reason="exited", grade="proven"), is_on_disk=True)
        run.acknowledge(run.pending.reports, store=False)
        assert not directory.outbox().final
        retention = Retention(state, 0.0, lambda _: False)
        ended = EndedRuns(lambda _: False, retention, SurvivorList(state.path), lambda _: None, lambda: None)
        ended.delivered(run)
        ended.wake()
        ended.close(None)
        assert directory.outbox().final
        assert not directory.outbox().reports
    finally:
        subprocess.run(["umount", mounted], check=True)
    retention.sweep()
    assert not directory.path.exists()

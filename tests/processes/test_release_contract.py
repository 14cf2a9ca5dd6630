"""Run directories of an earlier release under this agent: files are all that both share, and these were kept."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from pathlib import Path

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.host.store.state_directory import StateDirectory
from flowherd.states import RunState
from flowherd_runner.contract import files
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
RUN_ID = "211f04ad-22d0-4ec2-a018-12f0f1e7774c"


@pytest.fixture(params=sorted(path.name for path in FIXTURES.glob("runs-*")))
def release(request: pytest.FixtureRequest) -> Path:
    return FIXTURES / request.param


@pytest.fixture
def backend() -> MemoryBackend:
    """A backend with the run, claimed by the earlier agent."""
    backend = MemoryBackend()
    backend.add_run({"type": "Command", "argv": ["kept"]}, run_id=RUN_ID)
    (run,) = backend.ready_runs([], ())
    backend.claim(run, f"65ad5c99ec2e401ba430a96b181ff975/{RUN_ID}")
    return backend


@pytest.fixture
def runs(clean_environment: Path) -> Path:
    state = StateDirectory(clean_environment / "agents" / "agent")
    state.close()
    return state.runs


def put(release: Path, name: str, runs: Path) -> Path:
    directory = runs / RUN_ID
    shutil.copytree(release / name, directory)
    return directory


def put_with_own_interpreter(release: Path, name: str, runs: Path) -> Path:
    """Like `put`, for a run that is started: by this Python, because that of its spec may not be on this host."""
    path = put(release, name, runs) / files.SPEC_FILE
    path.write_text(path.read_text().replace("/usr/bin/python3", sys.executable))
    return path.parent


def agent(backend: MemoryBackend) -> LocalAgent:
    return LocalAgent(backend=backend, hostname_label=False)


def test_a_run_that_had_ended_is_reported_with_its_log(release: Path, backend: MemoryBackend, runs: Path) -> None:
    put(release, "ended", runs)
    with going(agent(backend)):
        assert wait_for_end(backend, RUN_ID) is RunState.FAILED
    assert "code 3" in backend.message(RUN_ID)
    assert backend.log(RUN_ID)[:3] == ["one", "two", "three"]


def test_a_run_that_was_running_when_the_host_went_down_is_lost_by_reboot(
    release: Path, backend: MemoryBackend, runs: Path
) -> None:
    put(release, "lost", runs)
    with going(agent(backend)):
        assert wait_for_end(backend, RUN_ID) is RunState.FAILED
    assert "restarted" in backend.message(RUN_ID)
    assert backend.log(RUN_ID)[:2] == ["one", "two"]


def test_a_run_that_still_runs_is_watched_until_its_runner_releases_the_lock(
    release: Path, backend: MemoryBackend, runs: Path
) -> None:
    directory = put(release, "alive", runs)
    # This process stands in for the old runner: it holds the lock, and leaves the record that the old one left.
    lock_fd = os.open(directory / files.LOCK_FILE, os.O_RDWR)
    fcntl.flock(lock_fd, fcntl.LOCK_EX)
    with going(agent(backend)):
        wait_until(lambda: backend.log(RUN_ID)[:2] == ["one", "two"])
        assert backend.state(RUN_ID) is RunState.SUBMITTED
        for name in (files.JOURNAL_FILE, files.EXIT_FILE):
            shutil.copy(release / "ended" / name, directory / f".{name}")
            (directory / f".{name}").rename(directory / name)
        os.close(lock_fd)
        assert wait_for_end(backend, RUN_ID) is RunState.FAILED
    assert "code 3" in backend.message(RUN_ID)
    assert backend.log(RUN_ID)[:3] == ["one", "two", "three"]


def test_a_run_that_was_claimed_and_not_started_is_started(release: Path, backend: MemoryBackend, runs: Path) -> None:
    put_with_own_interpreter(release, "intended", runs)
    with going(agent(backend)):
        assert wait_for_end(backend, RUN_ID) is RunState.FAILED
    assert "code 3" in backend.message(RUN_ID)
    assert backend.log(RUN_ID)[0] == "one"


def test_modules_that_it_preloads_are_found_where_they_are_now(
    release: Path, backend: MemoryBackend, runs: Path
) -> None:
    """This Python has no Prefect, and only that keeps the run from its start."""
    put_with_own_interpreter(release, "intended-prefect", runs)
    with going(agent(backend)):
        assert wait_for_end(backend, RUN_ID) is RunState.FAILED
    assert f"no module named prefect in {sys.executable}" in backend.message(RUN_ID)

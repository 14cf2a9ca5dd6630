"""LocalAgent and runs with a level of isolation: what it counts, adopts, ends and clears is as without a level."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.host.run import Run
from flowherd.states import RunState
from flowherd_runner.contract.identity import process_status
from tests.support.agents import going, wait_for_end
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")

#: Leaves a tree in /tmp that only root could remove without changing its modes.
READ_ONLY_TREE = "mkdir -p /tmp/a/b && touch /tmp/a/b/c /var/tmp/d && chmod -R a-w /tmp/a"


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def make_agent(backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch) -> Callable[[], LocalAgent]:
    monkeypatch.setenv("FLOWHERD__RUNS__ISOLATION__LEVEL", "private")
    monkeypatch.setenv("FLOWHERD__RUNS__KEEP", "3600")
    monkeypatch.setenv("FLOWHERD__AGENT__WATCH_INTERVAL", "0.05")
    return lambda: LocalAgent(backend=backend, hostname_label=False)


@pytest.fixture
def agent(make_agent: Callable[[], LocalAgent]) -> Iterator[LocalAgent]:
    with going(make_agent()) as agent:
        yield agent


def shell(backend: MemoryBackend, script: str, **run_config: Any) -> str:
    return backend.add_run({"type": "Command", "argv": ["sh", "-c", script]}, run_config=run_config)


def on_host(agent: LocalAgent, run_id: str) -> Run:
    """Return what the agent has of a run, once its start is recorded."""
    return wait_until(
        lambda: next((run for run in agent._own_host._registry if run.id == run_id and run.init_pid), None),
        what="the start of the run",
    )


def directory_of(clean_environment: Path, run_id: str) -> Path:
    return clean_environment / "agents" / "agent" / "runs" / run_id


def test_neither_limits_nor_figures_count_the_init_process(agent: LocalAgent, backend: MemoryBackend) -> None:
    within = shell(backend, "sleep 100 & sleep 100 & (setsid sleep 100 &) ; exec sleep 100", limits={"processes": 4})
    beyond = shell(backend, "sleep 100 & sleep 100 & (setsid sleep 100 &) ; exec sleep 100", limits={"processes": 3})
    run = on_host(agent, within)
    wait_until(lambda: run.tree.usage.processes == 4)
    assert run.init_pid not in [member.pid for member in run.tree.members]
    assert wait_for_end(backend, beyond) is RunState.FAILED
    assert "4 processes, the limit is 3" in backend.message(beyond)
    backend.cancel(within)
    assert wait_for_end(backend, within) is RunState.CANCELLED


def test_the_private_tmp_of_a_run_is_removed_although_its_directory_is_kept(
    agent: LocalAgent, backend: MemoryBackend, clean_environment: Path
) -> None:
    ended = shell(backend, READ_ONLY_TREE)
    killed = shell(backend, f"{READ_ONLY_TREE} && echo made && exec sleep 100")
    assert wait_for_end(backend, ended) is RunState.SUCCESS
    wait_until(lambda: "made" in backend.log(killed))
    private = directory_of(clean_environment, killed) / "private"
    assert (private / "tmp" / "a" / "b" / "c").exists()
    run = on_host(agent, killed)
    assert run.runner is not None
    os.kill(run.runner.pid, signal.SIGKILL)
    assert wait_for_end(backend, killed) is RunState.FAILED
    assert "could not be ended" not in backend.message(killed) + str(backend.log(killed))
    assert not list(Path("/tmp/a").glob("*"))
    directories = [directory_of(clean_environment, run_id) for run_id in (ended, killed)]
    wait_until(lambda: not any((one / "private").exists() for one in directories), what="the removal")
    assert all((one / "journal").exists() for one in directories)


def test_the_next_agent_adopts_a_run_with_its_namespace(
    make_agent: Callable[[], LocalAgent], backend: MemoryBackend
) -> None:
    with going(make_agent()) as agent:
        run_id = shell(backend, "echo one; sleep 100; echo never")
        wait_until(lambda: "one" in backend.log(run_id))
        init_pid = on_host(agent, run_id).init_pid
    with going(make_agent()) as agent:
        run = on_host(agent, run_id)
        assert run.init_pid == init_pid
        wait_until(lambda: run.tree.usage.processes == 2)
        backend.cancel(run_id)
        assert wait_for_end(backend, run_id) is RunState.CANCELLED
    assert init_pid is not None
    status = process_status(init_pid)
    assert status is None or status[2] == "Z"

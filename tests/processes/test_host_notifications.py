"""An agent whose server sends no notifications sends those about its own host."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from flowherd import LocalAgent
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.notify.file_outbox import DIRECTORY, read_entries
from flowherd.programs.entry import ProgramEntry
from flowherd.programs.program_log import DIRECTORY as PROGRAMS
from flowherd.programs.program_log import ProgramLog
from flowherd.states import RunState
from tests.support.agents import going, wait_for_end
from tests.support.http_server import Answer, CannedServer, canned_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]


@pytest.fixture
def hook() -> Iterator[CannedServer]:
    with canned_server() as server:
        yield server


def agent_at(
    backend: MemoryBackend,
    home: Path,
    hook: CannedServer,
    named: str = "memory",
    on: Sequence[str] = ("failed", "recovered", "disk"),
) -> LocalAgent:
    home.mkdir(mode=0o700, exist_ok=True)
    (home / "config.toml").write_text(
        f'[agent]\nbackend = "{named}"\n[[notify.channels]]\nname = "hook"\nwebhook = "{hook.url}"\n'
        f"[[notify.rules]]\non = {json.dumps(list(on))}\n[notify]\nafter = 1\n"
    )
    settings = load_settings(environ={"FLOWHERD_HOME": str(home), "HOME": str(home)})
    return LocalAgent(backend=backend, settings=settings, hostname_label=False, agent_address="http://127.0.0.1:0")


def end(backend: MemoryBackend, script: str) -> RunState:
    return wait_for_end(backend, backend.add_run({"type": "Command", "argv": ["sh", "-c", script]}, name="nightly"))


def told(hook: CannedServer) -> list[dict[str, Any]]:
    """Return what was delivered; how full the disk of the tests is plays no part."""
    return [found for request in hook.requests if (found := json.loads(request.body))["kind"] != "disk"]


def test_failures_and_recoveries_are_told_once_also_by_the_next_agent(tmp_path: Path, hook: CannedServer) -> None:
    backend, home = MemoryBackend(), tmp_path / "home"
    with going(agent_at(backend, home, hook)):
        assert end(backend, "echo first; echo last >&2; exit 3") is RunState.FAILED
        assert end(backend, "exit 3") is RunState.FAILED
        (failure,) = wait_until(lambda: told(hook), what="the failure is told")
        assert failure["title"] == "nightly failed: The flow process exited with code 3."
        assert (failure["reason"], failure["grade"], failure["agent"]) == ("exited", "proven", "agent")
        assert {"first", "last"} <= set(failure["last_lines"])
        # What the hook does not take waits for the next agent.
        hook.answers = [Answer(status=503)]
        assert end(backend, "true") is RunState.SUCCESS
        waiting = home / "agents" / "agent" / DIRECTORY
        wait_until(lambda: [each.error for each in read_entries(waiting) if each.error], what="it is refused")
    hook.answers = [Answer()]
    hook.requests.clear()
    with going(agent_at(backend, home, hook)):
        (recovery,) = wait_until(lambda: told(hook), what="the recovery is told")
        assert recovery["title"] == "nightly succeeds again, after 2 failures"
        assert end(backend, "true") is RunState.SUCCESS
        wait_until(lambda: not list(waiting.glob("*.json")), what="nothing waits")
    assert len(told(hook)) == 1


def test_an_agent_at_flowherds_server_leaves_it_to_the_server(tmp_path: Path, hook: CannedServer) -> None:
    backend = MemoryBackend()
    with going(agent_at(backend, tmp_path / "home", hook, named="graphql")):
        assert end(backend, "exit 3") is RunState.FAILED
    assert hook.requests == []


def metrics_of(agent: LocalAgent) -> str:
    return requests.get(f"{agent.api_address}/metrics", timeout=5).text


def test_an_agent_tells_what_became_of_supervisords_programs_also_beside_flowherds_server(
    tmp_path: Path, hook: CannedServer
) -> None:
    """The log is read on where the agent before has stopped; what the first one finds is history."""
    home = tmp_path / "home"
    state_dir = home / "agents" / "agent"
    agent = agent_at(MemoryBackend(), home, hook, named="graphql", on=["program", "recovered"])
    state_dir.mkdir(parents=True, mode=0o700)
    log = ProgramLog(state_dir / PROGRAMS)
    bad = ProgramEntry(
        at=time.time(), program="web", what="exited", message="web was killed by SIGSEGV.", reason="signal",
        grade="proven", signal="SIGSEGV", expected=False,
    )  # fmt: skip
    log.add(replace(bad, program="old", message="old was killed."))
    with going(agent):
        wait_until((state_dir / "programs.position").exists, what="the agent has read the log")
    for entry in (bad, bad, ProgramEntry(at=time.time(), program="", what="lost", message="", count=3)):
        log.add(entry)
    with going(agent_at(MemoryBackend(), home, hook, named="graphql", on=["program", "recovered"])) as second:
        (failure,) = wait_until(lambda: told(hook), what="the failure is told")
        assert failure["title"] == f"web was killed by SIGSEGV on {socket.gethostname()}"
        assert (failure["kind"], failure["reason"], failure["grade"]) == ("program", "signal", "proven")
        text = wait_until(lambda: metrics_of(second))
        assert 'flowherd_program_ends_total{cause="signal",program="web"} 2.0' in text
        assert 'flowherd_program_up{program="old"} 0.0' in text
        assert "flowherd_program_events_lost_total 3.0" in text
    log.add(ProgramEntry(at=time.time() - 5, program="web", what="running", message="web is running."))
    hook.requests.clear()
    with going(agent_at(MemoryBackend(), home, hook, named="graphql", on=["program", "recovered"])):
        (recovery,) = wait_until(lambda: told(hook), what="the recovery is told")
        assert recovery["title"] == f"web runs again on {socket.gethostname()}, after 2 failures"
        assert recovery["over"] == "program"

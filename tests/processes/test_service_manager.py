"""What an agent tells a service manager: that it is ready, alive and in contact, and how long it needs to stop."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from flowherd import LocalAgent
from flowherd.agent import agent_log, journald
from flowherd.agent.shutdown import ShutdownRequest
from flowherd.backends.memory import MemoryBackend
from flowherd.config import load_settings
from flowherd.states import RunState
from tests.support.agents import RecordingAgent, going
from tests.support.http_server import Answer, Request, http_server
from tests.support.service_manager import Notifications, notifications
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("no_process_left")


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notifications]:
    """A service manager with a watchdog of 0.6 seconds."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "600000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    with notifications(tmp_path / "notify") as received:
        yield received


def test_the_watchdog_ends_an_agent_that_alone_has_no_contact_and_none_while_nobody_has(
    manager: Notifications,
) -> None:
    """Another process would do better in the first case only."""
    polls: list[Request] = []
    log: list[str] = []
    page = Answer(status=502)

    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return page
        polls.append(request)
        return Answer(status=503)

    def polled() -> bool:
        seen = len(polls)
        return bool(wait_until(lambda: len(polls) > seen + 3))

    with http_server(answer) as url:
        settings = load_settings({"cloud.api": url, "cloud.request_timeout": 1.0})
        with going(RecordingAgent(settings=settings)) as agent:
            wait_until(lambda: agent._own_connection.silent_s() > 0.6)
            logger.add(log.append)  # now: an agent's start replaces those before
            manager.forget()
            assert polled()
            wait_until(lambda: "WATCHDOG=1" in manager.lines(), what="a beat while the server is away for all")
            page = Answer(status=200)
            wait_until(lambda: any("answers new connections" in line for line in log), what="the line that says so")
            manager.forget()
            assert polled()
            assert "WATCHDOG=1" not in manager.lines()
            page = Answer(status=502)
            wait_until(lambda: "WATCHDOG=1" in manager.lines(), what="a beat when nobody has contact again")


def test_an_agent_is_alive_between_two_polls_however_long_its_pauses_are(manager: Notifications) -> None:
    class RestingAgent(RecordingAgent):
        def start(self, _loop_intervals: dict[int, float] | None = None) -> None:
            super().start({0: 600.0})

    with going(RestingAgent(backend=MemoryBackend())):
        wait_until(lambda: manager.lines().count("WATCHDOG=1") > 3, what="beats of a resting agent")


def test_a_draining_agent_asks_for_more_time_and_says_what_it_waits_for(manager: Notifications, tmp_path: Path) -> None:
    backend = MemoryBackend()
    own = {"agent.state_dir": str(tmp_path / "state"), "agent.limit": 4, "cloud.check_cancellation_interval": 0.1}
    settings = load_settings(own)
    with going(LocalAgent(backend=backend, hostname_label=False, settings=settings)) as agent:
        run_id = backend.add_run({"type": "Command", "argv": ["sleep", "100"]})
        wait_until(lambda: backend.state(run_id) is RunState.RUNNING)
        wait_until(lambda: "STATUS=1 run, limit 4" in manager.lines())
        assert manager.messages()[0] == "READY=1\nSTATUS=0 runs, limit 4"
        agent.control.shut_down(ShutdownRequest(on_stop="drain", deadline_s=3600.0))
        wait_until(lambda: manager.lines().count("EXTEND_TIMEOUT_USEC=30000000") > 1, what="requests for more time")
        lines = manager.lines()
        assert lines.index("STOPPING=1") < lines.index("STATUS=1 run, limit 4, draining")
        assert "WATCHDOG=1" in lines[lines.index("STOPPING=1") :]
        backend.cancel(run_id)


def test_a_manager_that_reads_nothing_does_not_stop_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, contextlib.suppress(BlockingIOError):
            sender.setblocking(False)
            while True:
                sender.sendto(b"X", str(tmp_path / "notify"))
        backend = MemoryBackend()
        with going(RecordingAgent(backend=backend)) as agent:
            run_id = backend.add_run({"type": "Command", "argv": ["true"]})
            wait_until(lambda: run_id in agent.deployed)


def test_lines_about_a_run_reach_the_journal_with_its_id_flow_and_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "SOCKET", [str(tmp_path / "journal")])
    backend = MemoryBackend()
    settings = load_settings({"agent.state_dir": str(tmp_path / "state"), "logging.journald": True})
    with notifications(tmp_path / "journal") as journal:
        agent_log.configure("INFO", settings.settings.logging)
        try:
            with going(LocalAgent(backend=backend, hostname_label=False, settings=settings)):
                run_id = backend.add_run({"type": "Command", "argv": ["sh", "-c", "exit 3"]})
                wait_until(lambda: any("FLOWHERD_STATE=Failed" in one for one in journal.messages()))
        finally:
            logger.configure(handlers=[], extra={}, patcher=lambda record: None)
        entry = next(one for one in journal.messages() if "FLOWHERD_STATE=Failed" in one).splitlines()
    assert f"FLOWHERD_RUN_ID={run_id}" in entry
    assert any(line.startswith("FLOWHERD_FLOW=") for line in entry)
    assert "PRIORITY=4" in entry

"""The HTTP API of an agent: health, poke, runs and metrics, and what it refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from flowherd import Agent
from flowherd.backends.memory import MemoryBackend
from flowherd.errors import BackendUnavailable, ConfigurationError
from tests.support.agents import QUICK, RecordingAgent, going
from tests.support.waiting import wait_until

COMMAND = {"type": "Command", "argv": ["true"]}


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


def test_health_poke_runs_and_metrics_are_served(backend: MemoryBackend, session: requests.Session) -> None:
    agent = RecordingAgent(backend=backend, agent_address="http://127.0.0.1:0")
    thread = threading.Thread(target=agent.start, args=({0: 60.0},))
    thread.start()
    address = wait_until(lambda: agent.api_address)
    try:
        wait_until(lambda: session.get(f"{address}/api/health", timeout=5).json().get("status") == "ok")
        backend._runs.clear()
        run_id = backend.add_run(COMMAND)
        assert session.get(f"{address}/api/poke", timeout=5).status_code == 200
        wait_until(lambda: agent.deployed == [run_id])
        assert session.get(f"{address}/api/runs", timeout=5).json()["agent"] == "agent"
        assert "flowherd_up 1.0" in session.get(f"{address}/metrics", timeout=5).text
    finally:
        agent.stop()
        thread.join()


def test_health_is_503_while_the_backend_is_silent(session: requests.Session) -> None:
    class Silent(MemoryBackend):
        def connect(self) -> Any:
            raise BackendUnavailable("silent")

    agent = RecordingAgent(backend=Silent(), agent_address="http://127.0.0.1:0")
    agent._own_connection.opened_s -= 3600
    with going(agent):
        address = wait_until(lambda: agent.api_address)
        answer = session.get(f"{address}/api/health", timeout=5)
        assert answer.status_code == 503
        assert "backend" in answer.json()["reason"]


def test_with_an_api_token_everything_except_bare_health_needs_it(
    backend: MemoryBackend, session: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWHERD__AGENT__API_TOKEN", "key")
    with going(RecordingAgent(backend=backend, agent_address="http://127.0.0.1:0")) as agent:
        address = wait_until(lambda: agent.api_address)
        health = session.get(f"{address}/api/health", timeout=5)
        assert (health.status_code, health.json()) == (200, {})
        for path in ("/api/poke", "/api/runs", "/metrics"):
            assert session.get(address + path, timeout=5).status_code == 401
            headers = {"Authorization": "Bearer key"}
            assert session.get(address + path, headers=headers, timeout=5).status_code == 200


def test_a_foreign_host_name_is_refused(backend: MemoryBackend, session: requests.Session) -> None:
    with going(RecordingAgent(backend=backend, agent_address="http://127.0.0.1:0")) as agent:
        address = wait_until(lambda: agent.api_address)
        answer = session.get(f"{address}/api/runs", headers={"Host": "evil.example"}, timeout=5)
        assert answer.status_code == 400


def test_a_web_page_cannot_poke(backend: MemoryBackend, session: requests.Session) -> None:
    with going(RecordingAgent(backend=backend, agent_address="http://127.0.0.1:0")) as agent:
        address = wait_until(lambda: agent.api_address)
        for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            assert session.get(f"{address}/api/poke", headers=headers, timeout=5).status_code == 403
            assert session.post(f"{address}/api/pause", headers=headers, timeout=5).status_code == 403


def test_a_request_with_two_ends_is_refused_on_every_path(backend: MemoryBackend) -> None:
    with going(RecordingAgent(backend=backend, agent_address="http://127.0.0.1:0")) as agent:
        host, _, port = wait_until(lambda: agent.api_address).removeprefix("http://").partition(":")
        for path in (b"/api/health", b"/api/poke", b"/api/pause"):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                ends = b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                method = b"GET " if path == b"/api/health" else b"POST "
                connection.sendall(method + path + b" HTTP/1.1\r\nHost: localhost\r\n" + ends + b"GET / HTTP/1.1\r\n")
                answer = b""
                while data := connection.recv(65536):
                    answer += data
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("address", ["http://0.0.0.0:0", "http://127.0.0.1", "http://127.0.0.1:x"])
def test_an_unusable_address_is_refused_with_the_reason(backend: MemoryBackend, address: str) -> None:
    with pytest.raises(ConfigurationError, match="agent address"):
        Agent(backend=backend, agent_address=address).start(_loop_intervals=QUICK)

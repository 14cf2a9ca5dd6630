"""Slow questions keep no thread from claims, heartbeats and /health, and neither do connections that wait."""

from __future__ import annotations

import asyncio
import socket
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from sqlalchemy import event

from flowherd.http_connections import BoundedServer, server_config
from flowherd.http_limits import Limits
from flowherd_server.runs.stale_heartbeats import RescueOptions
from flowherd_server.service import ServerCore
from flowherd_server.store.database import Database
from flowherd_server.web.app import create_app
from tests.support.waiting import wait_until

SLOW = '{ tenant(where: {name: {_like: "%%"}}) { id } }'
#: A query in a text that begins like a change.
DISGUISED = 'mutation M { create_project(input: {name: "p"}) { id } } query Q ' + SLOW
MAX_WAITS = 2


class Server:
    """The web application over a database whose `_like` waits until `go` is set."""

    def __init__(self, database: Database) -> None:
        self.go = threading.Event()
        #: Number of questions that are being answered.
        self.waiting = 0
        event.listen(database._readers, "connect", self._slow_down)
        self._database = database
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server: BoundedServer | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def _slow_down(self, connection: Any, _record: Any) -> None:
        connection.create_function("fh_like", 3, self._wait)

    def _wait(self, *_: Any) -> bool:
        self.waiting += 1
        return self.go.wait(20)

    async def _serve(self) -> None:
        core = ServerCore(self._database, 1, 0.0, RescueOptions())
        app = create_app(core, "127.0.0.1", "", max_waits=MAX_WAITS)
        limits = Limits(request_bytes=1_000_000)
        self._server = BoundedServer(server_config(app, stop_timeout_s=1), "the server", limits)
        await self._server.serve(sockets=[self._listener])

    def __enter__(self) -> Server:
        self._thread.start()
        wait_until(lambda: self._server is not None and self._server.started)
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(20)

    def ask(self, text: str, agent_id: str = "", operation: str | None = None) -> Any:
        request, headers = {"query": text, "operationName": operation}, {"X-PREFECT-AGENT-ID": agent_id}
        body = requests.post(self.url + "/graphql", json=request, headers=headers, timeout=20).json()
        assert "errors" not in body, body
        return body["data"]

    def wake(self, agent_id: str, seen: int) -> requests.Response:
        return requests.get(f"{self.url}/agents/{agent_id}/wake", params={"seen": seen, "timeout": 20}, timeout=20)


@pytest.fixture
def server(database: Database) -> Iterator[Server]:
    with Server(database) as server:
        yield server


def register(server: Server) -> str:
    name = f"agent-{uuid.uuid4()}"
    text = f'mutation {{ register_agent(input: {{type: "T", name: "{name}", labels: []}}) {{ id }} }}'
    return str(server.ask(text)["register_agent"]["id"])


def test_slow_questions_hold_up_neither_health_nor_agents(server: Server) -> None:
    with ThreadPoolExecutor(20) as pool:
        try:
            slow = [pool.submit(server.ask, SLOW) for _ in range(10)]
            slow += [pool.submit(server.ask, DISGUISED, operation="Q") for _ in range(10)]
            wait_until(lambda: server.waiting >= 4)
            assert requests.get(server.url + "/health", timeout=20).ok
            agent_id = register(server)
            text = 'mutation { get_runs_in_queue(input: {labels: [], before: "2030-01-01"}) { flow_run_ids } }'
            assert server.ask(text, agent_id) == {"get_runs_in_queue": {"flow_run_ids": []}}
            assert server.ask("{ flow_run(limit: 5) { id } }", agent_id) == {"flow_run": []}
            assert not any(each.done() for each in slow)
        finally:
            server.go.set()
        assert [len(each.result(20)["tenant"]) for each in slow] == [1] * 20


def test_connections_that_wait_for_a_wake_are_counted(server: Server) -> None:
    agent_id = register(server)
    seen = server.wake(agent_id, 0).json()["sequence"]
    with ThreadPoolExecutor(MAX_WAITS) as pool:
        waits = [pool.submit(wait_until, lambda: server.wake(agent_id, seen) or None) for _ in range(MAX_WAITS)]
        wait_until(lambda: server.wake(agent_id, 0).status_code == 503)
        refused = server.wake(agent_id, 0)
        assert "API_ERROR" in refused.json()["errors"][0]["message"]
        assert refused.headers["Retry-After"]
        assert requests.post(server.url + "/poke", timeout=20).ok
        assert all(each.result(20).ok for each in waits)
    assert server.wake(agent_id, 0).status_code == 200

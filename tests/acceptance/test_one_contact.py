"""One contact with the backend: a pause that it asks for, and a token that it refuses, hold for every part of an agent.

A real server behind a proxy that answers chosen requests itself, with 429 or 401.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from flowherd import LocalAgent
from flowherd.config import load_settings
from flowherd.errors import NotAuthorized
from tests.support.agents import going
from tests.support.dialect import Client
from tests.support.server import ServerProcess, running_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.usefixtures("no_process_left"), pytest.mark.slow]

#: Words in a request's text, by what the request is for. A wake request is a GET.
POLL, CLAIM_OR_REPORT, LOGS = "get_runs_in_queue", "set_flow_run_states", "write_run_logs"
HEARTBEAT, CANCELLATIONS = "update_flow_run_heartbeat", "flow_run(where"
PAUSE_S = 3.0
HEARTBEAT_S = 0.4


@dataclass
class Gate:
    """Passes requests on to the server, except those that a rule answers."""

    target: str
    #: Arrival time (monotonic seconds) and text of every request that came in, the wake requests as "wake".
    requests: list[tuple[float, str]] = field(default_factory=list)
    #: Word in the requests that are answered here, with the status of the answer.
    rule: tuple[str, int] | None = None
    #: When the rule was first applied (monotonic seconds).
    applied_at_s: float | None = None

    def answer(self, text: str) -> int | None:
        """Note the request; return the status to answer it with, or None to pass it on."""
        now_s = time.monotonic()
        self.requests.append((now_s, text))
        rule = self.rule
        if rule is None or rule[0] not in text:
            return None
        if self.applied_at_s is None:
            self.applied_at_s = now_s
            if rule[1] == 429:
                self.rule = None  # once: later requests show whether the pause is kept
        return rule[1]

    def names_between(self, start_s: float, end_s: float) -> set[str]:
        """Return what the requests of a time were for; only those that came in strictly after its start."""
        words = (POLL, CLAIM_OR_REPORT, LOGS, HEARTBEAT, CANCELLATIONS)
        texts = [text for at_s, text in self.requests if start_s < at_s < end_s]
        return {next((word for word in words if word in text), text) for text in texts}


@contextmanager
def gate_before(server: ServerProcess) -> Iterator[tuple[str, Gate]]:
    """The address of a proxy in front of the server, and its gate."""
    gate = Gate(server.url)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._pass("wake" if "/wake" in self.path else self.path, None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self._pass(json.loads(body)["query"], body)

        def _pass(self, text: str, body: bytes | None) -> None:
            status = gate.answer(text)
            if status is None:
                with requests.Session() as session:
                    session.trust_env = False
                    headers = {"Content-Type": "application/json"}
                    answer = session.request(self.command, gate.target + self.path, data=body, headers=headers)
                self._send(answer.status_code, answer.content, dict(answer.headers))
            elif status == 429:
                self._send(429, b"", {"Retry-After": str(PAUSE_S)})
            else:
                self._send(status, b"{}", {})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() in ("content-type", "retry-after", "x-flowherd-server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}", gate
    finally:
        proxy.shutdown()
        thread.join()
        proxy.server_close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running_server(tmp_path_factory.mktemp("contact") / "data") as server:
        yield server


@pytest.fixture
def go(tmp_path: Path) -> Iterator[Path]:
    """A file that lets the runs end once it exists; it does at the end of the test."""
    path = tmp_path / "go"
    yield path
    path.touch()


def agent_at(address: str) -> LocalAgent:
    settings = {
        "cloud.api": address,
        "cloud.heartbeat_interval": HEARTBEAT_S,
        "cloud.logging_heartbeat": 0.05,
        "cloud.check_cancellation_interval": 0.2,
        "agent.grace": 0.5,
    }
    return LocalAgent(labels=["contact"], hostname_label=False, settings=load_settings(settings))


def talking_run(client: Client, go: Path, working_dir: Path) -> str:
    """A run that prints a number every few milliseconds until the file `go` exists, and then `last`."""
    script = f"n=0; while [ ! -e {go} ]; do n=$((n+1)); echo $n; sleep 0.02; done; echo last"
    config = {"type": "LocalRun", "labels": ["contact"], "working_dir": str(working_dir)}
    return client.create_run(client.flow(storage={"type": "Command", "argv": ["sh", "-c", script]}, run_config=config))


@pytest.mark.parametrize("asked_by", [POLL, LOGS, HEARTBEAT, CANCELLATIONS])
def test_a_pause_that_one_request_meets_holds_for_all_but_heartbeats(
    server: ServerProcess, tmp_path: Path, go: Path, asked_by: str
) -> None:
    client = Client(server)
    with gate_before(server) as (address, gate), going(agent_at(address)):
        run_id = talking_run(client, go, tmp_path)
        wait_until(lambda: client.run(run_id, "state")["state"] == "Running" and printed(client, run_id))
        gate.rule = (asked_by, 429)
        began_s = wait_until(lambda: gate.applied_at_s)
        wait_until(lambda: time.monotonic() > began_s + PAUSE_S)
        # Requests that were on their way when the answer came are not held back; they take a moment to arrive.
        during = gate.names_between(began_s + 0.2, began_s + PAUSE_S)
        assert during == {HEARTBEAT}
        heartbeats = [at_s for at_s, text in gate.requests if HEARTBEAT in text and 0 < at_s - began_s < PAUSE_S]
        assert len(heartbeats) >= PAUSE_S / HEARTBEAT_S / 3, "heartbeats go on at about their interval"
        go.touch()
        wait_until(lambda: client.run(run_id, "state")["state"] == "Success")
        assert {POLL, LOGS, CLAIM_OR_REPORT} <= gate.names_between(began_s + PAUSE_S, time.monotonic())
    lines = printed(client, run_id)
    assert lines == [*(str(n) for n in range(1, len(lines))), "last"]


def test_a_claim_that_meets_a_pause_is_made_after_it_and_once(server: ServerProcess, tmp_path: Path) -> None:
    client = Client(server)
    with gate_before(server) as (address, gate), going(agent_at(address)):
        wait_until(lambda: any(POLL in text for _, text in gate.requests))
        gate.rule = (CLAIM_OR_REPORT, 429)
        (tmp_path / "go").touch()
        run_id = talking_run(client, tmp_path / "go", tmp_path)
        began_s = wait_until(lambda: gate.applied_at_s)
        wait_until(lambda: client.run(run_id, "state")["state"] == "Success")
        assert gate.names_between(began_s + 0.2, began_s + PAUSE_S) == set()
    assert printed(client, run_id) == ["last"]


@pytest.mark.parametrize("refused", [POLL, LOGS, HEARTBEAT, CANCELLATIONS, CLAIM_OR_REPORT, "wake"])
def test_a_token_that_any_request_finds_refused_ends_the_agent_and_not_its_run(
    server: ServerProcess, tmp_path: Path, go: Path, refused: str
) -> None:
    client = Client(server)
    with gate_before(server) as (address, gate):
        agent = agent_at(address)
        with pytest.raises(NotAuthorized), going(agent):
            run_id = talking_run(client, go, tmp_path)
            wait_until(lambda: client.run(run_id, "state")["state"] == "Running")
            gate.rule = (refused, 401)
            if refused == CLAIM_OR_REPORT:
                other = talking_run(client, go, tmp_path)
            wait_until(lambda: gate.applied_at_s is not None)
            wait_until(lambda: agent._own_connection.refused is not None)
            wait_until(ended(agent), what="the agent's end")
        assert client.run(run_id, "state")["state"] == "Running"
        gate.rule = None
        with going(agent_at(address)):  # the next agent adopts the run, and takes the one that was not claimed
            go.touch()
            for one in [run_id, *([other] if refused == CLAIM_OR_REPORT else [])]:
                wait_until(lambda one=one: client.run(one, "state")["state"] == "Success")


def printed(client: Client, run_id: str) -> list[str]:
    """What the run has printed, as the server has it."""
    rows = client.run(run_id, "logs(order_by: {timestamp: asc}) { message info }")["logs"]
    return [row["message"] for row in rows if row["info"]["stream"] == "stdout"]


def ended(agent: LocalAgent) -> Callable[[], bool]:
    return lambda: not any(thread.name == "agent-under-test" for thread in threading.enumerate())
